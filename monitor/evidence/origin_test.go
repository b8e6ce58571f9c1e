package evidence_test

import (
	"fmt"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

func ExampleParseOrigin() {
	fmt.Println(evidence.ParseOrigin("monitor.example.org/relaymon/psf"))
	fmt.Println(evidence.ParseOrigin("monitor.example.org/relaymon/main"))
	// Output:
	// monitor.example.org psf <nil>
	//   origin "monitor.example.org/relaymon/main": want <name>/relaymon/<lab or psf>
}
