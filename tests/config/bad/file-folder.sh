mkdir pfeed.yaml
