ln -s pfeed.yaml pfeed.yaml
