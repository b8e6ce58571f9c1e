package bucket

import "context"

// Headers are what a reader of an object is told of it.
func Headers(ctx context.Context, b *Bucket, name string) (mediaType, cache string, err error) {
	a, err := b.blob.Attributes(ctx, name)
	if err != nil {
		return "", "", err
	}
	return a.ContentType, a.CacheControl, nil
}
