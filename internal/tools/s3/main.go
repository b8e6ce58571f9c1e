// Command s3 serves a folder as an S3-compatible store, for tests: Versity's gateway,
// which checks signatures and checksums as others do. Its own command brings backends and
// tests along that take minutes to build.
//
//	s3 HOST:PORT FOLDER ACCESS-KEY SECRET-KEY
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: s3 HOST:PORT FOLDER ACCESS-KEY SECRET-KEY")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx, os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "s3:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, listen, dir, access, secret string) error {
	files, err := posix.New(dir, meta.XattrMeta{}, posix.PosixOpts{})
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(ctx, files, &embedgw.Config{
		RootUserAccess: access, RootUserSecret: secret, Ports: []string{listen}, Region: "us-east-1",
		MaxConnections: 1000, MaxRequests: 1000, MultipartMaxParts: 1000, Quiet: true, KeepAlive: true, IAMCacheDisable: true,
	})
}
