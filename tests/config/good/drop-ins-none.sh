mkdir feeds.d
printf 'version: 1\nfeeds: { a: { source: { type: synthetic, rows: 9 }, batch: 3, fields: { x: { } } } }\n' >pfeed.yaml
