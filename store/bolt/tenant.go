package bolt

import (
	"unicode/utf8"

	"github.com/duffy-broker/duffy-broker/broker"
)

// nameKey is the key of a tenant's name. A key can't be empty, but a name can, as
// in Duffy: it has a byte that no other name begins with.
func nameKey(name string) []byte {
	if name == "" {
		return []byte{0xff}
	}
	return []byte(name)
}

// Identity implements [broker.ReadTx].
func (t *tx) Identity() (broker.Identity, error) {
	id, ok, err := read[broker.Identity](t, bucketMeta, []byte(keyIdentity))
	if err == nil && !ok {
		err = broker.Errorf(broker.CodeNotFound, "the store has no identity yet")
	}
	return id, err
}

// SetIdentity implements [broker.Tx].
func (t *tx) SetIdentity(id broker.Identity) error {
	known, ok, err := read[broker.Identity](t, bucketMeta, []byte(keyIdentity))
	if err != nil {
		return err
	}
	if ok && known.ID != id.ID {
		return broker.Errorf(broker.CodeConflict, "the store has an identity already")
	}
	return t.write(bucketMeta, []byte(keyIdentity), id)
}

// Tenant implements [broker.ReadTx].
func (t *tx) Tenant(id int64) (broker.Tenant, error) {
	tenant, ok, err := read[broker.Tenant](t, bucketTenants, idKey(id))
	if err == nil && !ok {
		err = broker.Errorf(broker.CodeNotFound, "there is no tenant %d", id)
	}
	return tenant, err
}

// TenantByName implements [broker.ReadTx].
func (t *tx) TenantByName(name string) (broker.Tenant, error) {
	id, ok, err := t.getID(bucketTenantsByName, nameKey(name))
	if err != nil {
		return broker.Tenant{}, err
	}
	if !ok {
		return broker.Tenant{}, broker.Errorf(broker.CodeNotFound, "there is no tenant '%s'", name)
	}
	return t.Tenant(id)
}

// Tenants implements [broker.ReadTx].
func (t *tx) Tenants() ([]broker.Tenant, error) {
	return readAll[broker.Tenant](t, bucketTenants, nil, 0)
}

// CreateTenant implements [broker.Tx].
func (t *tx) CreateTenant(tenant *broker.Tenant) error {
	if err := t.nameIsFree(tenant.Name); err != nil {
		return err
	}
	id, err := t.nextID(bucketTenants)
	if err != nil {
		return err
	}
	stored := *tenant
	stored.ID = id
	if err := t.write(bucketTenants, idKey(id), stored); err != nil {
		return err
	}
	if err := t.put(bucketTenantsByName, nameKey(stored.Name), idKey(id)); err != nil {
		return err
	}
	tenant.ID = id
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
	if err := t.write(bucketTenants, idKey(tenant.ID), tenant); err != nil || old.Name == tenant.Name {
		return err
	}
	if err := t.remove(bucketTenantsByName, nameKey(old.Name)); err != nil {
		return err
	}
	return t.put(bucketTenantsByName, nameKey(tenant.Name), idKey(tenant.ID))
}

func (t *tx) nameIsFree(name string) error {
	if !utf8.ValidString(name) {
		return broker.Errorf(broker.CodeInvalid, "the name of a tenant %q is not valid UTF-8", name)
	}
	_, ok, err := t.getID(bucketTenantsByName, nameKey(name))
	if err != nil {
		return err
	}
	if ok {
		return broker.Errorf(broker.CodeConflict, "there is a tenant '%s' already", name)
	}
	return nil
}
