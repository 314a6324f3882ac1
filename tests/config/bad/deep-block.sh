{
    echo "version: 1"
    awk 'BEGIN { for (i = 0; i < 1000; i++) printf "%*s\n", i + 2, "a:" }'
} >pfeed.yaml
