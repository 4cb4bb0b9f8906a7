// net/smtp sends a file: send PORT FILE ROOT, with "-" for ROOT to go without TLS.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/smtp"
	"os"
)

func send(port, file, root string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	client, err := smtp.Dial("127.0.0.1:" + port)
	if err != nil {
		return err
	}
	defer client.Close()
	if root != "-" {
		pem, err := os.ReadFile(root)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return errors.New("no certificate in " + root)
		}
		if err := client.StartTLS(&tls.Config{RootCAs: roots, ServerName: "mail.example"}); err != nil {
			return err
		}
	}
	// Mail says BODY=8BITMIME by itself where the server offers it.
	if err := client.Mail("me@penstock.test"); err != nil {
		return err
	}
	if err := client.Rcpt("you@penstock.test"); err != nil {
		return err
	}
	writer, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := writer.Write(content); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return client.Quit()
}

func main() {
	if err := send(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
