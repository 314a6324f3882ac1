mkdir 'Bilder – größer'
mkdir 'Bilder – größer/猫' 'Bilder – größer/犬 "#1"'
: >'Bilder – größer/猫/1.jpg'
: >'Bilder – größer/犬 "#1"/1.jpg'
cat >pfeed.yaml <<'END'
version: 1
feeds:
  bilder:
    source: { type: directory, path: "Bilder – größer" } # größer als zuvor
    batch: 2
    fields: { label: { dtype: int64 } }
END
