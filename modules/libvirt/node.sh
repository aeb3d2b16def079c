#!/bin/sh
# node.sh check|base|remove: what the module does with virsh. Its arguments are in the
# environment: no shell reads them a second time. Each message begins with the class
# that duffy.hcl makes of it.
set -eu
export LC_ALL=C

fail() {
  echo "$*" >&2
  exit 1
}

# say runs virsh; what went wrong is in $said.
say() { said=$(virsh --quiet --connect "$NODE_URI" "$@" 2>&1 </dev/null); }

connect() {
  command -v virsh >/dev/null || fail "configuration: virsh is not installed on the broker's machine (package libvirt-clients or libvirt-client)"
  say uri || fail "hypervisor: $said"
}

pool_is_active() { say pool-info "$1" && echo "$said" | grep -q '^State: *running'; }

# volumes lists the names in a pool, without the space that virsh puts around them.
volumes() {
  say vol-list "$1" || fail "hypervisor: $said"
  echo "$said" | sed -n 's/^ *\([^ ][^ ]*\) .*/\1/p'
}

has_volume() { volumes "$1" | grep -Fqx -e "$2"; }

case $1 in
check)
  connect
  for program in mkisofs xsltproc; do
    command -v "$program" >/dev/null || fail "configuration: $program is not installed on the broker's machine: the provider needs it (packages genisoimage or xorriso, xsltproc or libxslt)"
  done
  pool_is_active "$NODE_POOL" || fail "configuration: storage pool $NODE_POOL is not there or not active: $said"
  if [ -n "$NODE_BASE" ]; then
    [ "$NODE_BASE_POOL" = "$NODE_POOL" ] || pool_is_active "$NODE_BASE_POOL" || fail "configuration: storage pool $NODE_BASE_POOL is not there or not active: $said"
    say vol-info --pool "$NODE_BASE_POOL" "$NODE_BASE" || fail "configuration: base volume $NODE_BASE is not in storage pool $NODE_BASE_POOL (after a change by hand: virsh pool-refresh): $said"
  fi
  if [ -n "$NODE_NETWORK" ]; then
    say net-info "$NODE_NETWORK" && echo "$said" | grep -q '^Active: *yes' || fail "configuration: network $NODE_NETWORK is not there or not active: $said"
  fi
  case $NODE_ACCELERATOR in
  kvm | auto)
    found=tcg
    say domcapabilities --arch "$NODE_ARCH" --virttype kvm && found=kvm
    [ "$NODE_ACCELERATOR" = auto ] || [ $found = kvm ] || fail "configuration: the hypervisor has no KVM for $NODE_ARCH: $said"
    if [ "$NODE_ACCELERATOR" = auto ]; then
      umask 077
      mkdir -p "$NODE_DIRECTORY"
      echo $found > "$NODE_DIRECTORY/accelerator"
    fi
    ;;
  esac
  [ $NODE_ACCELERATOR != tcg ] || say domcapabilities --arch "$NODE_ARCH" --virttype qemu || fail "configuration: the hypervisor has no QEMU for $NODE_ARCH: $said"
  ;;

base)
  # The volume counts when its mark is there: an upload may be cut short. Nodes that
  # are made at the same time wait for one upload.
  connect
  mark=$NODE_BASE.complete
  if has_volume "$NODE_POOL" "$mark" && has_volume "$NODE_POOL" "$NODE_BASE"; then exit 0; fi
  command -v flock >/dev/null || fail "configuration: flock is not installed on the broker's machine (package util-linux)"
  work=${TMPDIR:-/tmp}/duffy-base-$(id -u)
  mkdir -p -m 0700 "$work"
  [ -O "$work" ] || fail "configuration: $work belongs to somebody else"
  exec 9> "$work/$NODE_BASE.lock"
  flock 9
  say pool-refresh "$NODE_POOL" || fail "hypervisor: $said"
  if has_volume "$NODE_POOL" "$mark" && has_volume "$NODE_POOL" "$NODE_BASE"; then exit 0; fi
  file=$NODE_IMAGE
  case $NODE_IMAGE in
  http://* | https://*)
    command -v curl >/dev/null || fail "configuration: curl is not installed on the broker's machine"
    file=$work/$NODE_BASE.part
    trap 'rm -f "$work/$NODE_BASE.part"' EXIT
    trap 'exit 1' INT TERM
    curl --fail --silent --show-error --location --retry 3 --output "$file" -- "$NODE_IMAGE" || fail "image: $NODE_IMAGE can't be downloaded"
    ;;
  esac
  [ -r "$file" ] || fail "configuration: $file can't be read"
  sum=$(sha256sum < "$file") && sum=${sum%% *}
  [ "$sum" = "$NODE_SHA256" ] || fail "configuration: $NODE_IMAGE has the SHA-256 checksum $sum, and image_sha256 says $NODE_SHA256"
  format=raw
  [ "$(head -c 3 "$file")" != QFI ] || format=qcow2
  for volume in "$mark" "$NODE_BASE"; do
    if has_volume "$NODE_POOL" "$volume"; then say vol-delete --pool "$NODE_POOL" "$volume" || fail "hypervisor: $said"; fi
  done
  say vol-create-as "$NODE_POOL" "$NODE_BASE" --capacity "$(wc -c < "$file")" --allocation 0 --format $format || fail "hypervisor: $said"
  say vol-upload --pool "$NODE_POOL" "$NODE_BASE" --file "$file" || fail "hypervisor: $said"
  say pool-refresh "$NODE_POOL" || fail "hypervisor: $said" # its capacity is the image's now
  say vol-create-as "$NODE_POOL" "$mark" --capacity 0 --format raw || fail "hypervisor: $said"
  ;;

remove)
  connect
  say list --all --name || fail "hypervisor: $said"
  if echo "$said" | grep -Fqx -e "$NODE_NAME"; then
    say domstate "$NODE_NAME" || fail "hypervisor: $said"
    [ "$said" = "shut off" ] || say destroy "$NODE_NAME" || fail "hypervisor: $said"
    say list --all --name || fail "hypervisor: $said"
    if echo "$said" | grep -Fqx -e "$NODE_NAME"; then
      say undefine "$NODE_NAME" --managed-save --snapshots-metadata --checkpoints-metadata --nvram || fail "hypervisor: $said"
    fi
  fi
  # Without its pool nothing is left. What came into being just before may not be listed yet.
  say pool-list --all --name || fail "hypervisor: $said"
  if echo "$said" | sed 's/ *$//' | grep -Fqx -e "$NODE_POOL"; then
    pool_is_active "$NODE_POOL" || say pool-start "$NODE_POOL" || fail "hypervisor: $said"
    say pool-refresh "$NODE_POOL" || fail "hypervisor: $said"
    for volume in "$NODE_NAME.qcow2" "$NODE_NAME-seed.iso"; do
      if has_volume "$NODE_POOL" "$volume"; then
        say vol-delete --pool "$NODE_POOL" "$volume" || fail "hypervisor: $said"
      fi
    done
  fi
  if [ -d "$NODE_DIRECTORY" ]; then
    rm -f "$NODE_DIRECTORY/accelerator"
    rmdir "$NODE_DIRECTORY" 2>/dev/null || true # others may keep something there
  fi
  ;;
esac
