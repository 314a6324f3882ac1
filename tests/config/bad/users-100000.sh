{
    printf "version: 1\nfeeds:\n  a:\n    source: { type: synthetic, rows: 10 }\n    batch: 4\n    fields: { x: {} }\n    access: { users: ["
    awk 'BEGIN { for (i = 0; i < 100000; i++) printf "u%d,", i }'
    echo "] }"
} >pfeed.yaml
