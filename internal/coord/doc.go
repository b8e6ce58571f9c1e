// Package coord speaks the coordination protocol of the PSF / Cash Stack IPFS
// network, as helia-coord 2.0.2 does: the announcements on the coordination
// topic, the encrypted private messages, and the list of bootstrap peers.
//
// Everything read here was written by strangers: sizes, rates, subscriptions and
// tables are bounded, and a peer counts as the author of what it signed, never
// of what it claims.
package coord

// The topics of the network. Beside them every peer reads its private messages
// on a topic that is named by its peer ID.
const (
	Topic         = "psf-ipfs-coordination-003"
	OldTopic      = "psf-ipfs-coordination-002" // of ipfs-coord-esm 9.1.13, with the same announcements
	ChatTopic     = "psf-ipfs-chat-001"
	CoinJoinTopic = "bch-coinjoin-001"
)
