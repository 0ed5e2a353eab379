# A wget for each request.
echo up
read -r _
failed=0
body=$(mktemp)
while read -r method url bytes kind; do
    set -- -q --tries=1 --timeout=20 --no-http-keep-alive --max-redirect=0 -O /dev/null --ca-certificate="$SSL_CERT_FILE" --method="$method"
    [ "$method" = HEAD ] || set -- "$@" --content-on-error # it would wait for the body
    if [ "$bytes" != 0 ]; then
        head -c "$bytes" /dev/zero >"$body"
        set -- "$@" --body-file="$body"
    fi
    begun=$(date +%s%N)
    wget "$@" "$url"
    status=$?
    [ $status = 0 ] || [ $status = 8 ] || failed=1 # 8: the server said that it is an error
    echo "$url $(($(date +%s%N) - begun))"
done <"$1"
rm "$body"
exit $failed
