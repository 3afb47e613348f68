// Command probe is what tests of the cluster itself run in pods: a web server
// that says who asked, and a client that fetches a page.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		log.Fatal(http.ListenAndServe(os.Args[2], http.HandlerFunc(answer)))
	case len(os.Args) == 3 && os.Args[1] == "get":
		if err := get(os.Args[2]); err != nil {
			log.Fatal(err)
		}
	default:
		log.Fatal("usage: probe serve ADDRESS | probe get URL")
	}
}

func answer(response http.ResponseWriter, request *http.Request) {
	name, _ := os.Hostname()
	fmt.Fprintf(response, "%s uid %d asked by %s\n", name, os.Getuid(), request.RemoteAddr)
}

func get(url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}
