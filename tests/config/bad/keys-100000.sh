{
    echo "version: 1"
    awk 'BEGIN { for (i = 0; i < 100000; i++) print "k" i ": 1" }'
} >pfeed.yaml
