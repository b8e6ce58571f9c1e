// Package bucket keeps the appliance's backups in an S3-compatible bucket. It is apart
// from package appliance so that programs which only know the settings do not link it.
package bucket

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/psf-relay/relay-appliance/internal/appliance"
)

type bucket struct {
	client *minio.Client
	at     appliance.S3
}

// Open prepares the use of a bucket; nobody is asked yet.
func Open(at appliance.S3) (appliance.Place, error) {
	keys := credentials.NewFileAWSCredentials(at.Credentials, "default")
	if v, err := keys.GetWithContext(nil); err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
		// The library quotes the line that it does not understand, which may be the secret.
		return nil, fmt.Errorf("no access key in %s (backup.credentials): want the lines [default], aws_access_key_id = ID and aws_secret_access_key = KEY", at.Credentials)
	}
	o := &minio.Options{Creds: keys, Secure: !at.Plain, Region: at.Region, BucketLookup: minio.BucketLookupPath}
	host := at.Endpoint
	if host == "" {
		host, o.BucketLookup = "s3."+at.Region+".amazonaws.com", minio.BucketLookupDNS
	}
	client, err := minio.New(host, o)
	if err != nil {
		return nil, err
	}
	client.SetAppInfo("relay-appliance", "")
	return &bucket{client, at}, nil
}

// Put sends the file in parts, each with its checksum, and each again if it fails. Then
// it asks what is there.
func (b *bucket) Put(ctx context.Context, name string, f *os.File, size int64) error {
	sent, err := b.client.PutObject(ctx, b.at.Bucket, b.at.Folder+name, f, size, minio.PutObjectOptions{
		ContentType: "application/octet-stream", SendContentMd5: true, NumThreads: 1,
	})
	if err != nil {
		return err
	}
	there, err := b.client.StatObject(ctx, b.at.Bucket, b.at.Folder+name, minio.StatObjectOptions{})
	if err != nil {
		return fmt.Errorf("look whether it is there: %w", err)
	}
	if there.Size != size || there.ETag != sent.ETag {
		return fmt.Errorf("the bucket has %d bytes (ETag %s), and %d were sent (%s)", there.Size, there.ETag, size, sent.ETag)
	}
	return nil
}

// maxNames is more than all the machines of one operator leave in a folder.
const maxNames = 100_000

func (b *bucket) List(ctx context.Context, prefix string) (names []string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing
	for o := range b.client.ListObjects(ctx, b.at.Bucket, minio.ListObjectsOptions{Prefix: b.at.Folder + prefix}) {
		if o.Err != nil {
			return nil, o.Err
		}
		if len(names) == maxNames {
			return nil, fmt.Errorf("the bucket names more than %d backups of this machine", maxNames)
		}
		names = append(names, strings.TrimPrefix(o.Key, b.at.Folder))
	}
	return names, ctx.Err()
}

func (b *bucket) Remove(ctx context.Context, name string) error {
	return b.client.RemoveObject(ctx, b.at.Bucket, b.at.Folder+name, minio.RemoveObjectOptions{})
}
