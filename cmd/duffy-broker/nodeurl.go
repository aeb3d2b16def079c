package main

import (
	"cmp"
	"net/url"
	"os"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

// engineNodes are what an engine knows of its nodes. It comes into being after the
// broker.
type engineNodes struct{ *terraform.Engine }

// nodeURLVariable is where the URL comes from that no flag gives.
const nodeURLVariable = "DUFFY_BROKER_NODE_URL"

// nodeURL checks where nodes reach the broker, and gives it without a slash at its
// end; "" for nowhere.
func nodeURL(flag string) (string, error) {
	text := cmp.Or(flag, os.Getenv(nodeURLVariable))
	if text == "" {
		return "", nil
	}
	refuse := func(why string) (string, error) {
		return "", broker.Errorf(broker.CodeInvalid, "--node-url can't be used: %s", why).
			WithHint("it is where nodes reach the broker, such as https://broker.example.org or http://192.0.2.1:8080/duffy (also in %s)", nodeURLVariable)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return refuse("it is no URL") // the error would show a password in it
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("it does not begin with http:// or https://")
	case u.User != nil:
		return refuse("it has a user in it")
	case u.Hostname() == "":
		return refuse("it names no host")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return refuse("it has a query or a fragment")
	case strings.ContainsAny(text, " \t\r\n\"'$`\\{}"):
		return refuse("it has a character that scripts would not take as it is") // it stands in iPXE scripts and cloud-init
	}
	return strings.TrimRight(u.String(), "/"), nil
}
