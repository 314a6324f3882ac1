printf 'version: 1\nfeeds: {}\n' >pfeed.yaml
mkdir feeds.d
ln -s one.yaml feeds.d/one.yaml
ln -s nowhere feeds.d/two.yaml
