// Package bucket keeps a log's public form in an object store, and reads it from there:
// Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage, or a
// plain folder. What is written, and in which order, monitor/tiles says; bundles are beside
// it, under bundles/<month>/.
//
// A store is named by one URL ([Check] says which are taken). Credentials never stand in it:
// each provider's own library finds them, in its environment variables and files.
//
//	s3://NAME?region=eu-central-1
//	s3://NAME?region=auto&endpoint=https://s3.example.net&prefix=log/
//	gs://NAME
//	azblob://CONTAINER?storage_account=ACCOUNT
//	file:///srv/www/log
//
// The store is not trusted. Whoever can write to it can withhold a log or damage it, which a
// reader sees; he can forge none. [Bucket.Push] keeps nothing of its own on disk: the
// checkpoint goes last, so what a bucket shows is what it has.
package bucket
