{
    printf "version: 1\nfeeds: "
    printf "%0500000d" 0 | tr 0 "["
} >pfeed.yaml
