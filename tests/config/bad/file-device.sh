ln -s /dev/zero pfeed.yaml
