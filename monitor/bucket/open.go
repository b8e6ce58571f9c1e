package bucket

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcp"
	"golang.org/x/oauth2"
	"google.golang.org/api/option"
)

// connect prepares the use of a store; nobody is asked for an object yet.
func connect(ctx context.Context, a address) (*blob.Bucket, error) {
	// What is asked for credentials later keeps the context.
	ctx = context.WithoutCancel(ctx)
	var b *blob.Bucket
	var err error
	switch a.scheme {
	case "s3":
		b, err = connectS3(ctx, a)
	case "gs":
		b, err = connectGCS(ctx, a)
	default:
		b, err = connectAzure(ctx, a)
	}
	if err != nil {
		return nil, err
	}
	if a.prefix != "" {
		b = blob.PrefixedBucket(b, a.prefix)
	}
	return b, nil
}

func connectS3(ctx context.Context, a address) (*blob.Bucket, error) {
	q := maps.Clone(a.query)
	if q.Has("endpoint") {
		// Many other servers know neither the newer checksums nor a name for each bucket.
		q.Set("request_checksum_calculation", "when_required")
		q.Set("response_checksum_validation", "when_required")
		if !q.Has("use_path_style") {
			q.Set("use_path_style", "true")
		}
		if !q.Has("region") {
			q.Set("region", "us-east-1")
		}
	}
	return new(s3blob.URLOpener).OpenBucketURL(ctx, &url.URL{Scheme: a.scheme, Host: a.name, RawQuery: q.Encode()})
}

func connectGCS(ctx context.Context, a address) (*blob.Bucket, error) {
	client := gcp.NewAnonymousHTTPClient(gcp.DefaultTransport())
	var tokens gcp.TokenSource = nobody{}
	// The library's own opener writes to the standard output.
	if !a.query.Has("anonymous") && os.Getenv("STORAGE_EMULATOR_HOST") == "" {
		keys, err := gcp.DefaultCredentials(ctx)
		if err != nil {
			return nil, fmt.Errorf("no credentials for Google Cloud: set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account's key: %w", err)
		}
		tokens = gcp.CredentialsTokenSource(keys)
		if client, err = gcp.NewHTTPClient(gcp.DefaultTransport(), tokens); err != nil {
			return nil, err
		}
	}
	o := &gcsblob.Options{}
	if os.Getenv("STORAGE_EMULATOR_HOST") == "" {
		// Or the library looks for credentials of its own, and takes http.DefaultTransport for
		// the standard library's on the way: that can panic.
		o.ClientOptions = []option.ClientOption{option.WithTokenSource(tokens)}
	}
	return gcsblob.OpenBucket(ctx, client, a.name, o)
}

// nobody has no token.
type nobody struct{}

func (nobody) Token() (*oauth2.Token, error) {
	return nil, errors.New("nobody has no token")
}

func connectAzure(ctx context.Context, a address) (*blob.Bucket, error) {
	o := azureblob.NewDefaultServiceURLOptions()
	o.AccountName = a.query.Get("storage_account")
	if a.query.Has("anonymous") {
		o.SASToken = ""
	}
	service, err := azureblob.NewServiceURL(o)
	if err != nil {
		return nil, err
	}
	var client *container.Client
	if a.query.Has("anonymous") {
		var at string
		if at, err = url.JoinPath(string(service), a.name); err == nil {
			client, err = container.NewClientWithNoCredential(at, nil)
		}
	} else {
		client, err = azureblob.NewDefaultClient(service, azureblob.ContainerName(a.name))
	}
	if err != nil {
		return nil, err
	}
	return azureblob.OpenBucket(ctx, client, nil)
}
