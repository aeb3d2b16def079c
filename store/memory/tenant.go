package memory

import (
	"unicode/utf8"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Identity implements [broker.ReadTx].
func (t *tx) Identity() (broker.Identity, error) {
	if t.identity == nil {
		return broker.Identity{}, broker.Errorf(broker.CodeNotFound, "the store has no identity yet")
	}
	return *t.identity, nil
}

// SetIdentity implements [broker.Tx].
func (t *tx) SetIdentity(id broker.Identity) error {
	if t.identity != nil && t.identity.ID != id.ID {
		return broker.Errorf(broker.CodeConflict, "the store has an identity already")
	}
	set(t, &t.identity, &id)
	return nil
}

// Tenant implements [broker.ReadTx].
func (t *tx) Tenant(id int64) (broker.Tenant, error) { return find(t.tenants, id, "tenant") }

// TenantByName implements [broker.ReadTx].
func (t *tx) TenantByName(name string) (broker.Tenant, error) {
	for _, tenant := range t.tenants {
		if tenant.Name == name {
			return clone(tenant)
		}
	}
	return broker.Tenant{}, broker.Errorf(broker.CodeNotFound, "there is no tenant '%s'", name)
}

// Tenants implements [broker.ReadTx].
func (t *tx) Tenants() ([]broker.Tenant, error) {
	return list(t.tenants, 0, func(broker.Tenant) bool { return true })
}

// CreateTenant implements [broker.Tx].
func (t *tx) CreateTenant(tenant *broker.Tenant) error {
	if err := t.nameIsFree(tenant.Name); err != nil {
		return err
	}
	stored := *tenant
	stored.ID = t.lastTenant + 1
	if err := put(t, t.tenants, stored.ID, stored); err != nil {
		return err
	}
	set(t, &t.lastTenant, stored.ID)
	tenant.ID = stored.ID
	return nil
}

// UpdateTenant implements [broker.Tx].
func (t *tx) UpdateTenant(tenant broker.Tenant) error {
	old, err := t.Tenant(tenant.ID)
	if err != nil {
		return err
	}
	if old.Name != tenant.Name {
		if err := t.nameIsFree(tenant.Name); err != nil {
			return err
		}
	}
	return put(t, t.tenants, tenant.ID, tenant)
}

func (t *tx) nameIsFree(name string) error {
	if !utf8.ValidString(name) {
		return broker.Errorf(broker.CodeInvalid, "the name of a tenant %q is not valid UTF-8", name)
	}
	for _, tenant := range t.tenants {
		if tenant.Name == name {
			return broker.Errorf(broker.CodeConflict, "there is a tenant '%s' already", name)
		}
	}
	return nil
}
