: # there is no pfeed.yaml
