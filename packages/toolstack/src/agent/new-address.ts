/** How a guest that goes on as another domain gives an interface the address that it has now: by a script, as agents of earlier versions can run it too. */
import { formatMac, type Mac } from "@xenoserver/network/wire/ethernet.ts";

/** What the guest is to do with what it has on the interface. */
export type AddressChange = {
  readonly devid: number;
  readonly mac: Mac;
  /** Others are on its network, the original among them: IP addresses are to be asked for anew. */
  readonly isShared: boolean;
};

/**
 * netfront takes another address only while it is down, which loses routes, and IPv6 addresses unless they are asked to stay. On a network of its own
 * everything is as it was afterwards, and the network hears of it by ARP. On a shared one IPv4 addresses go; whoever manages the interface asks for
 * others when its link is back, and for a container's image the script does.
 */
const SCRIPT = `
for path in /sys/bus/xen/devices/vif-$1/net/*; do dev=\${path##*/}; done
[ -e "/sys/class/net/$dev/address" ] || { echo "it has no interface for vif $1" >&2; exit 1; }
[ "$(cat "/sys/class/net/$dev/address")" != "$2" ] || exit 0
command -v ip > /dev/null || { echo "it has no program ip" >&2; exit 1; }
flags=$(cat "/sys/class/net/$dev/flags")
if [ $((flags & 1)) = 0 ]; then exec ip link set dev "$dev" address "$2"; fi
notify=/proc/sys/net/ipv4/conf/$dev/arp_notify
keep=/proc/sys/net/ipv6/conf/$dev/keep_addr_on_down
had_notify=$(cat "$notify" 2> /dev/null) had_keep=$(cat "$keep" 2> /dev/null)
set_to() { if [ -n "$2" ]; then echo "$2" > "$1"; fi; }
if [ "$3" = shared ]; then
  ip -4 addr flush dev "$dev"
else
  routes=$(ip -4 route show dev "$dev" 2> /dev/null; ip -6 route show dev "$dev" 2> /dev/null)
  set_to "$notify" "\${had_notify:+1}"
  set_to "$keep" "\${had_keep:+1}"
fi
ip link set dev "$dev" down
ip link set dev "$dev" address "$2"
status=$?
ip link set dev "$dev" up
again() {
  echo "$routes" | while read -r to rest; do
    rest=" $rest "
    case $rest in *" proto kernel "*|*" proto ra "*|*" expires "*) continue ;; esac
    case $rest in *" via "*) kind=far ;; *) kind=near ;; esac
    [ -n "$to" ] && [ $kind = "$1" ] || continue
    case $to in *:*) family=-6 ;; *) family=-4 ;; esac
    case $to$rest in "default"*:*) family=-6 ;; esac
    case $rest in *" dev "*) ;; *) rest="$rest dev $dev" ;; esac
    ip $family route add $to $rest 2> /dev/null
  done
}
if [ "$3" != shared ]; then
  again near
  again far
  set_to "$notify" "$had_notify"
  set_to "$keep" "$had_keep"
elif [ -e /xeno/agent ]; then
  udhcpc -i "$dev" -q -n -t 5 -T 2 > /dev/null 2>&1
fi
exit $status
`;

/** As an agent runs it. */
export const addressCommand = ({ devid, mac, isShared }: AddressChange): string[] => [
  ...["sh", "-c", SCRIPT, "new-address", String(devid), formatMac(mac)],
  isShared ? "shared" : "own",
];
