#!/bin/sh
# Makes the certificates of the tests anew, with openssl 3. They are kept in the tree, so that the tests need
# neither openssl nor a library that makes certificates; they hold until 2099 and are trusted by nobody.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
mkdir "$work/new"

# issue NAME SUBJECT EXTENSIONS KEY_ARGUMENTS ISSUER [START END]
issue() {
    name=$1 subject=$2 extensions=$3 key=$4 issuer=$5 start=${6:-20200101000000Z} end=${7:-20991231235959Z}
    # shellcheck disable=SC2086
    openssl genpkey $key -out "$name.key" 2>/dev/null
    openssl req -new -utf8 -key "$name.key" -subj "$subject" -out "$work/$name.csr"
    : > "$work/index"; : > "$work/index.attr"
    printf '[ca]\ndefault_ca=one\n[one]\nnew_certs_dir=%s/new\ndatabase=%s/index\nrand_serial=yes\npolicy=any\ndefault_md=sha256\nunique_subject=no\n[any]\ncommonName=supplied\norganizationName=optional\ncountryName=optional\n[ext]\n%b\n' \
        "$work" "$work" "$extensions" > "$work/conf"
    if [ "$issuer" = self ]; then by="-selfsign -keyfile $name.key"; else by="-cert $issuer.pem -keyfile $issuer.key"; fi
    # shellcheck disable=SC2086
    openssl ca -batch -notext -preserveDN -config "$work/conf" -extensions ext $by -startdate "$start" -enddate "$end" \
        -in "$work/$name.csr" -out "$name.pem" 2>/dev/null
}

EC="-algorithm EC -pkeyopt ec_paramgen_curve:P-256"
RSA="-algorithm RSA -pkeyopt rsa_keygen_bits:2048"
CA="basicConstraints=critical,CA:TRUE"

issue root "/CN=Penstock test root" "$CA" "$EC" self
issue intermediate "/CN=Penstock test intermediate" "$CA" "$EC" root
issue mail "/C=DE/O=Example, Inc./CN=mail.example" "subjectAltName=DNS:mail.example,DNS:*.mail.example" "$EC" intermediate
issue other "/CN=other.example" "subjectAltName=DNS:other.example" "$RSA" intermediate
issue renewed "/CN=mail.example" "subjectAltName=DNS:mail.example" "$EC" intermediate
issue expired "/CN=mail.example" "subjectAltName=DNS:mail.example" "$EC" intermediate 20200101000000Z 20210101000000Z
issue client "/CN=client.example" "subjectAltName=DNS:client.example" "$EC" intermediate
issue alone "/CN=alone.example" "subjectAltName=DNS:alone.example" "$EC" self
openssl x509 -in mail.pem -outform DER -out sample.der
for name in mail other renewed expired client; do
    cat "$name.pem" intermediate.pem > "$name.chain.pem"
    rm "$name.pem"
done
mv alone.pem alone.chain.pem
openssl pkcs8 -topk8 -in mail.key -passout pass:secret -out encrypted.key
rm root.key intermediate.key intermediate.pem
