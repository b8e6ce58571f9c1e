package circuit

import (
	"container/heap"
	"container/list"
	"net/netip"
)

// site is what one operator has at little cost: an IPv4 address, or an IPv6 /48.
type site struct {
	ip     netip.Prefix
	guests *list.List // of *reservation, oldest first
	at     int        // in the heap
}

func siteOf(ip netip.Prefix) netip.Prefix {
	if ip.Addr().Is6() {
		ip, _ = ip.Addr().Prefix(48) // is none only if ip is none
	}
	return ip
}

// sites are those of the guests, as a heap: the one with most guests first.
type sites struct {
	by   map[netip.Prefix]*site
	heap siteHeap
}

func (s *sites) enter(r *reservation) {
	ip := siteOf(r.ip)
	of := s.by[ip]
	if of == nil {
		of = &site{ip: ip, guests: list.New()}
		s.by[ip] = of
		heap.Push(&s.heap, of)
	}
	r.site, r.ofSite = of, of.guests.PushBack(r)
	heap.Fix(&s.heap, of.at)
}

func (s *sites) leave(r *reservation) {
	of := r.site
	of.guests.Remove(r.ofSite)
	r.site, r.ofSite = nil, nil
	if of.guests.Len() > 0 {
		heap.Fix(&s.heap, of.at)
		return
	}
	heap.Remove(&s.heap, of.at)
	delete(s.by, of.ip)
}

// count is how many guests' reservations the site of an address has.
func (s *sites) count(ip netip.Prefix) int {
	if of := s.by[siteOf(ip)]; of != nil {
		return of.guests.Len()
	}
	return 0
}

// most is the site with most guests' reservations; nil: there is no guest.
func (s *sites) most() *site {
	if len(s.heap) == 0 {
		return nil
	}
	return s.heap[0]
}

// siteHeap is for container/heap.
type siteHeap []*site

func (h siteHeap) Len() int           { return len(h) }
func (h siteHeap) Less(i, j int) bool { return h[i].guests.Len() > h[j].guests.Len() }
func (h siteHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *siteHeap) Push(x any)        { s := x.(*site); s.at = len(*h); *h = append(*h, s) }

func (h *siteHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return s
}
