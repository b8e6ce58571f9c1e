package evidence

// Class is the reason of an outcome other than ok, in one stable word. The
// words are part of the format: a word is never given another meaning.
type Class string

// Why a rung was not climbed, or what was our own fault.
const (
	NotAsked    Class = "not-asked"
	BelowFailed Class = "below-failed"
	Stopped     Class = "stopped"
	OwnFault    Class = "own-fault"
)

// Names and addresses.
const (
	NotPublic    Class = "not-public"
	NameNotFound Class = "name-not-found"
	NoARecord    Class = "no-a-record"
	NameLookup   Class = "name-lookup"
	Resolver     Class = "resolver"
)

// TCP.
const (
	Refused        Class = "refused"
	ConnectTimeout Class = "connect-timeout"
	Unreachable    Class = "unreachable"
	ConnectFailed  Class = "connect-failed"
)

// TLS and its certificates.
const (
	NotTLS                  Class = "not-tls"
	TLSAlert                Class = "tls-alert"
	TLSTimeout              Class = "tls-timeout"
	TLSFailed               Class = "tls-failed"
	CertSelfSigned          Class = "cert-self-signed"
	CertUntrusted           Class = "cert-untrusted"
	CertMissingIntermediate Class = "cert-missing-intermediate"
	CertWrongName           Class = "cert-wrong-name"
	CertExpired             Class = "cert-expired"
	CertNotYetValid         Class = "cert-not-yet-valid"
	CertInvalid             Class = "cert-invalid"
)

// The WebSocket upgrade.
const (
	NoUpgrade      Class = "no-upgrade"
	OriginRefused  Class = "origin-refused"
	UpgradeTimeout Class = "upgrade-timeout"
	UpgradeFailed  Class = "upgrade-failed"
)

// libp2p on a connection.
const (
	WrongPeer        Class = "wrong-peer"
	HandshakeTimeout Class = "handshake-timeout"
	HandshakeFailed  Class = "handshake-failed"
	Dropped          Class = "dropped"
	IdentifyTimeout  Class = "identify-timeout"
	IdentifyFailed   Class = "identify-failed"
	PingFailed       Class = "ping-failed"
)

// The reservation.
const (
	NoHop          Class = "no-hop"
	ReserveRefused Class = "reserve-refused"
	ReserveLimit   Class = "reserve-limit"
	ReserveDenied  Class = "reserve-denied"
	ReserveTimeout Class = "reserve-timeout"
	ReserveFailed  Class = "reserve-failed"
	ReserveExpired Class = "reserve-expired"
	VoucherInvalid Class = "voucher-invalid"
)

// The circuit.
const (
	CircuitBusy          Class = "circuit-busy"
	CircuitDenied        Class = "circuit-denied"
	CircuitNoReservation Class = "circuit-no-reservation"
	CircuitNotConnected  Class = "circuit-not-connected"
	CircuitTimeout       Class = "circuit-timeout"
	CircuitFailed        Class = "circuit-failed"
	CircuitCut           Class = "circuit-cut"
	CircuitWrongPeer     Class = "circuit-wrong-peer"
	LimitTooSmall        Class = "limit-too-small"
	NotRelayed           Class = "not-relayed"
	EchoAltered          Class = "echo-altered"
)

// The announcement.
const NotHeard Class = "not-heard"

// classes says what each class means and what to do, in the ladder's order.
var classes = []struct {
	class           Class
	meaning, advice string
}{
	{NotAsked, "no address for this was given", "give the relay's other address too"},
	{BelowFailed, "what this rung stands on had failed", "mend the rung that failed first"},
	{Stopped, "the probe was stopped before it was done", "run it again"},
	{OwnFault, "the prober's own machine failed, not the relay", "look at the detail and at this machine: open files, memory, local firewall"},

	{NotPublic, "the address is private or special-purpose, and so cannot be reached from the internet", "put the server's public IPv4 address into the multiaddr and into the A record"},
	{NameNotFound, "the domain name does not exist", "create the A record, or correct the name in the multiaddr"},
	{NoARecord, "the domain name exists but has no IPv4 address", "add an A record with the server's public IPv4 address"},
	{NameLookup, "the resolvers say that the domain's name servers give no usable answer", "check the domain's name servers"},
	{Resolver, "this machine's resolver gives no answer, or other resolvers do not confirm what it says: nothing is known of the relay", "look at the detail and at this machine's resolver, and see that it reaches second_resolvers"},

	{Refused, "nobody listens on the port", "start the relay, or correct its port in the multiaddr"},
	{ConnectTimeout, "no answer to the TCP connection", "open the port in the firewall and in the provider's security group, and check that the server is up"},
	{Unreachable, "the network reports no way to the address", "check the address, and this machine's own connection"},
	{ConnectFailed, "the TCP connection failed in another way", "see the detail"},

	{NotTLS, "the port answers without TLS (plain HTTP or plain websocket)", "serve TLS there: browsers refuse plain websockets"},
	{TLSAlert, "the server broke the TLS handshake off with an alert, as one does that has no certificate for the name", "look at the relay's log for the certificate's issue, and wait a minute if it has just started"},
	{TLSTimeout, "the port is open but the TLS handshake does not finish", "check what listens there; a relay that still waits for its first certificate does this for some seconds"},
	{TLSFailed, "the TLS handshake failed in another way", "see the detail; at least TLS 1.2 is needed"},
	{CertSelfSigned, "the certificate is signed by itself", "get one from a public CA; relayd does so by itself when its port 443 is reachable under its domain"},
	{CertUntrusted, "the certificate's chain ends at a CA that browsers do not know", "get one from a public CA; a staging or test CA does not count"},
	{CertMissingIntermediate, "the server sends its certificate without the intermediate that links it to a known CA", "serve the full chain (fullchain.pem, not cert.pem)"},
	{CertWrongName, "the certificate is for another name than the multiaddr's", "get a certificate for this very name"},
	{CertExpired, "the certificate has expired", "renew it, and find out why that did not happen by itself"},
	{CertNotYetValid, "the certificate is not valid yet", "check the clocks of the server and of this machine"},
	{CertInvalid, "the certificate is not fit for a web server in another way", "see the detail"},

	{NoUpgrade, "the server answers HTTP but does not upgrade to a websocket", "check that the relay's websocket listener stands behind this port, and that a proxy passes the Upgrade header on"},
	{OriginRefused, "the server answers 403 to a websocket request with an Origin header, which every browser sends", "allow all origins: pages of other sites must be able to connect"},
	{UpgradeTimeout, "TLS works but the websocket request is not answered", "check what listens behind TLS"},
	{UpgradeFailed, "the websocket request failed in another way", "see the detail"},

	{WrongPeer, "another peer ID answers there", "correct the peer ID in the multiaddr, or restore the relay's key"},
	{HandshakeTimeout, "the port is open but the libp2p handshake does not finish", "check that libp2p listens there, and that the server is not overloaded"},
	{HandshakeFailed, "no libp2p peer with Noise and yamux answers there", "check that libp2p listens there with Noise and yamux"},
	{Dropped, "the relay closed the connection right after it was made", "check the relay's limits of connections, in all and per address (this machine may share its address with others), and its block list; behind a proxy, check that the relay runs"},
	{IdentifyTimeout, "the relay does not answer the identify protocol in time", "check the server's load"},
	{IdentifyFailed, "the relay does not speak the identify protocol properly", "update its libp2p"},
	{PingFailed, "the relay does not answer libp2p ping", "switch the ping protocol on (/ipfs/ping/1.0.0)"},

	{NoHop, "the peer is no circuit relay: it does not offer /libp2p/circuit/relay/0.2.0/hop", "switch the relay service on; in go-libp2p also ForceReachabilityPublic"},
	{ReserveRefused, "the relay has no place left (RESERVATION_REFUSED)", "raise its number of reservations, if this happens often"},
	{ReserveLimit, "the relay is at a resource limit (RESOURCE_LIMIT_EXCEEDED)", "raise its limits, if this happens often"},
	{ReserveDenied, "the relay does not let strangers reserve (PERMISSION_DENIED)", "take its allow list away: the relay must be public"},
	{ReserveTimeout, "the relay does not answer the reservation request in time", "check the server's load"},
	{ReserveFailed, "the relay's answer to the reservation request is not one", "see the detail; update the relay's software"},
	{ReserveExpired, "the relay grants reservations that have already expired", "set the server's clock"},
	{VoucherInvalid, "the voucher is not the relay's signature for this reservation", "update the relay's software"},

	{CircuitBusy, "the relay is at its limit of circuits", "raise its limits, if this happens often"},
	{CircuitDenied, "the relay does not let strangers connect through it (PERMISSION_DENIED)", "take its allow list away: the relay must be public"},
	{CircuitNoReservation, "the relay forgot the reservation that it had just granted", "update the relay's software"},
	{CircuitNotConnected, "the relay could not reach the peer that holds the reservation (CONNECTION_FAILED)", "check the server's load"},
	{CircuitTimeout, "the relay does not open the circuit in time", "check the server's load"},
	{CircuitFailed, "the relay's answer to the connect request is not one", "see the detail; update the relay's software"},
	{CircuitCut, "the circuit was opened but broke before the bytes were through", "check the relay's limits of data and duration, and its log"},
	{CircuitWrongPeer, "the circuit leads to another peer than the one that was asked for", "update the relay's software"},
	{LimitTooSmall, "the relay's data limit is too small for the bytes of this test, as with the 256 bytes of stock helia-coord relays", "raise the data limit; the circuit v2 default is 131072 bytes"},
	{NotRelayed, "the two test peers reached one another directly, so the relay was not tested", "run the prober elsewhere; this says nothing about the relay"},
	{EchoAltered, "the echo differs although its channel is authenticated: the prober's own machine is at fault", "check this machine's memory"},

	{NotHeard, "no announcement of the relay was heard on the coordination topic", "check that the relay announces itself: twice in four minutes at least"},
}

// Classes lists all classes in the ladder's order.
func Classes() []Class {
	list := make([]Class, len(classes))
	for i, c := range classes {
		list[i] = c.class
	}
	return list
}

// Meaning says in half a sentence what was seen; empty for an unknown class.
func (c Class) Meaning() string {
	for _, k := range classes {
		if k.class == c {
			return k.meaning
		}
	}
	return ""
}

// Advice says what whoever runs the relay can do; empty for an unknown class.
func (c Class) Advice() string {
	for _, k := range classes {
		if k.class == c {
			return k.advice
		}
	}
	return ""
}
