# A curl for each request. A second argument is one more of its options.
echo up
read -r _
requests=$1
option=${2:-}
failed=0
while read -r method url bytes kind; do
    # seconds since its start: when it was connected, and when it was done
    set -- -s -S -o /dev/null -w '%{time_connect} %{time_total}' $option
    if [ "$method" = HEAD ]; then set -- "$@" -I; else set -- "$@" -X "$method"; fi
    if [ "$bytes" != 0 ]; then
        [ "$kind" = chunked ] && set -- "$@" -H "Transfer-Encoding: chunked"
        took=$(head -c "$bytes" /dev/zero | curl "$@" --data-binary @- "$url") || failed=1
    else
        took=$(curl "$@" "$url") || failed=1
    fi
    echo "$took" | awk -v url="$url" '{ printf "%s %d\n", url, ($2 - $1) * 1e9 + 1000 }'
done <"$requests"
exit $failed
