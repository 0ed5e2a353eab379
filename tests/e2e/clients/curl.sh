# A curl for each request.
echo up
read -r _
while read -r method url bytes kind; do
    set -- -s -S -o /dev/null
    if [ "$method" = HEAD ]; then set -- "$@" -I; else set -- "$@" -X "$method"; fi
    if [ "$bytes" != 0 ]; then
        [ "$kind" = chunked ] && set -- "$@" -H "Transfer-Encoding: chunked"
        head -c "$bytes" /dev/zero | curl "$@" --data-binary @- "$url" || exit 1
    else
        curl "$@" "$url" || exit 1
    fi
done <"$1"
