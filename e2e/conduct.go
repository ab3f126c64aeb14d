package e2e

// conduct is a rule by which the provider misbehaves towards everybody: paysim's
// PUT /provider/v1/admin/conduct tells what there is.
type conduct struct {
	Operation string `json:"operation,omitempty"` // "" = all but webhooks
	Misdeed   string `json:"misdeed"`
	Count     int    `json:"count,omitempty"`   // requests that it happens to
	Seconds   int    `json:"seconds,omitempty"` // for which it happens to all
	DelayMS   int    `json:"delay_ms,omitempty"`
}
