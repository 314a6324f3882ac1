truncate -s 100M pfeed.yaml
