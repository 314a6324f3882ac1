{
    printf 'version: 1\nfeeds:\n  f0: &f { source: { type: synthetic, rows: 9 }, batch: 3, fields: { x: {} } }\n'
    awk 'BEGIN { for (i = 1; i < 700; i++) print "  f" i ": *f" }'
} >pfeed.yaml
