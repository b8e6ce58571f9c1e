// Command faulty stands in for relayd in a package that is bad on purpose. All that
// is asked of it besides running it passes on to the real relayd, which lies beside
// it as relayd.real.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// fault is set when it is built: "crash" ends at once, "deaf" starts, says that it
// serves, takes connections, and answers none.
var fault string

func main() {
	self, err := os.Executable()
	check(err)
	if len(os.Args) < 2 || os.Args[1] != "run" {
		check(syscall.Exec(self+".real", os.Args, os.Environ()))
	}
	if fault == "crash" {
		panic("as it was made to")
	}
	id, err := exec.Command(self+".real", append([]string{"id"}, os.Args[2:]...)...).Output()
	check(err)
	l, err := net.Listen("tcp4", ":4001")
	check(err)
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				panic(err)
			}
		}
	}()
	notify, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	check(err)
	_, err = notify.Write([]byte("READY=1\nWATCHDOG_USEC=86400000000"))
	check(err)
	check(http.ListenAndServe("127.0.0.1:9464", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"peer_id": %q, "healthy": true, "ready": true}`, strings.TrimSpace(string(id)))
	})))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
