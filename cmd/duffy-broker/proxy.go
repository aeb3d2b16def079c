package main

import (
	"net/netip"

	"github.com/duffy-broker/duffy-broker/broker"
)

// parseProxies reads networks; an address alone is a network of one.
func parseProxies(texts []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range texts {
		network, err := netip.ParsePrefix(text)
		if ip, alone := netip.ParseAddr(text); err != nil && alone == nil && ip.Zone() == "" {
			network, err = ip.Prefix(ip.BitLen())
		}
		if err != nil {
			return nil, broker.Errorf(broker.CodeInvalid, "--trusted-proxy %s is no network", text).WithHint("it looks like 10.0.0.0/8, 192.0.2.7 or fd00::/8")
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}
