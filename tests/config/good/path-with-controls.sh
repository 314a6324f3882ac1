# U+0085, U+2028 and U+FEFF end lines or are not YAML where they stand as they are; the dump must not write them so.
folder=$(printf 'a\302\205b \342\200\250 c\357\273\277d')
mkdir "$folder" "$folder/one"
: >"$folder/one/1.jpg"
cat >pfeed.yaml <<'END'
version: 1
feeds:
  a:
    source: { type: directory, path: "a\u0085b \u2028 c\uFEFFd" }
    batch: 1
    fields: { label: {} }
END
