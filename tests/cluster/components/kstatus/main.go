// Command kstatus reads objects from standard input, as a JSON array, and
// prints what Kubernetes' own kstatus and the one of Flux and Helm 4 make of
// each: status and message.
package main

import (
	"encoding/json"
	"log"
	"os"

	flux "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	upstream "sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type verdicts struct {
	Upstream verdict `json:"upstream"`
	Flux     verdict `json:"flux"`
}

func main() {
	var objects []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		log.Fatal(err)
	}
	told := make([]verdicts, 0, len(objects))
	for _, object := range objects {
		one := unstructured.Unstructured{}
		if err := one.UnmarshalJSON(object); err != nil {
			log.Fatal(err)
		}
		byUpstream, err := upstream.Compute(&one)
		if err != nil {
			log.Fatal(err)
		}
		byFlux, err := flux.Compute(&one)
		if err != nil {
			log.Fatal(err)
		}
		told = append(told, verdicts{
			Upstream: verdict{string(byUpstream.Status), byUpstream.Message},
			Flux:     verdict{string(byFlux.Status), byFlux.Message},
		})
	}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		log.Fatal(err)
	}
}
