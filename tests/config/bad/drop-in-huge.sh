printf 'version: 1\nfeeds: {}\n' >pfeed.yaml
mkdir feeds.d
truncate -s 100M feeds.d/one.yaml
