{
    printf "version: 1\nfeeds:\n"
    awk 'BEGIN { for (i = 0; i < 100000; i++) print "  f" i ":" }'
} >pfeed.yaml
