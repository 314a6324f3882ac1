{
    printf "version: 1\nfeeds: ["
    awk 'BEGIN { for (i = 0; i < 100000; i++) printf "&%x x,", i }'
    echo "]"
} >pfeed.yaml
