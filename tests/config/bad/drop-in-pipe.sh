printf 'version: 1\nfeeds: {}\n' >pfeed.yaml
mkdir feeds.d
mkfifo feeds.d/one.yaml
