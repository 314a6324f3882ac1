mkfifo pfeed.yaml
