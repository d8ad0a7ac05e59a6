//! Where a connection may go: to public addresses, and to networks the operator allows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What the operator allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Networks that may be reached although they are not public, and without TLS.
    pub allow_networks: Vec<IpNet>,
    /// Public addresses may be reached without TLS.
    pub allow_http: bool,
}

/// What is to be said of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Anybody may reach it.
    Public,
    /// It lies in a network the operator allows.
    Allowed,
    /// It is not to be connected to; the text says what it is.
    Forbidden(&'static str),
}

/// Judges an address that a connection is about to be made to.
///
/// An IPv6 address that carries an IPv4 address is public only if that one is.
pub fn judge(address: IpAddr, policy: &Policy) -> Verdict {
    let canonical = address.to_canonical();
    if policy.allow_networks.iter().any(|network| network.contains(&canonical) || network.contains(&address)) {
        return Verdict::Allowed;
    }
    let forbidden = match canonical {
        IpAddr::V4(address) => forbidden_v4(address),
        IpAddr::V6(address) => forbidden_v6(address),
    };
    forbidden.map_or(Verdict::Public, Verdict::Forbidden)
}

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// IANA's special-purpose registry, less what is globally reachable.
const FORBIDDEN_V4: [(Ipv4Net, &str); 16] = [
    (v4(0, 0, 0, 8), "an address of this host"),
    (v4(10, 0, 0, 8), "a private address"),
    (v4(100, 64, 0, 10), "a carrier's shared address"),
    (v4(127, 0, 0, 8), "a loopback address"),
    (v4(169, 254, 0, 16), "a link-local address"),
    (v4(172, 16, 0, 12), "a private address"),
    (v4(192, 0, 0, 24), "a protocol's own address"),
    (v4(192, 0, 2, 24), "an address for documentation"),
    (v4(192, 88, 99, 24), "a 6to4 relay"),
    (v4(192, 168, 0, 16), "a private address"),
    (v4(198, 18, 0, 15), "an address for benchmarks"),
    (v4(198, 51, 100, 24), "an address for documentation"),
    (v4(203, 0, 113, 24), "an address for documentation"),
    (v4(224, 0, 0, 4), "a multicast address"),
    (Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32), "the broadcast address"),
    (v4(240, 0, 0, 4), "a reserved address"),
];

/// What is not public of 2000::/3, and names for what lies outside it.
const FORBIDDEN_V6: [(Ipv6Net, &str); 13] = [
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "the unspecified address"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "the loopback address"),
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96), "an IPv4-compatible address"),
    (v6(0x64, 0xff9b, 1, 48), "an address of a local translator"),
    (v6(0x100, 0, 0, 64), "a discard address"),
    (v6(0x2001, 0, 0, 23), "a protocol's own address"),
    (v6(0x2001, 0xdb8, 0, 32), "an address for documentation"),
    (v6(0x3fff, 0, 0, 20), "an address for documentation"),
    (v6(0x5f00, 0, 0, 16), "a segment routing address"),
    (v6(0xfc00, 0, 0, 7), "a private address"),
    (v6(0xfe80, 0, 0, 10), "a link-local address"),
    (v6(0xfec0, 0, 0, 10), "a site-local address"),
    (v6(0xff00, 0, 0, 8), "a multicast address"),
];

const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 0, 3);
const TRANSLATED: Ipv6Net = v6(0x64, 0xff9b, 0, 96);
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 0, 16);
const TEREDO: Ipv6Net = v6(0x2001, 0, 0, 32);

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    FORBIDDEN_V4.iter().find(|(network, _)| network.contains(&address)).map(|(_, what)| *what)
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [_, s1, s2, s3, _, _, c1, c2] = address.segments();
    if TRANSLATED.contains(&address) {
        return forbidden_v4(joined(c1, c2));
    }
    if SIX_TO_FOUR.contains(&address) {
        return forbidden_v4(joined(s1, s2));
    }
    if TEREDO.contains(&address) {
        // The relay's own address stands open, the client's with every bit turned.
        return forbidden_v4(joined(s2, s3)).or_else(|| forbidden_v4(joined(!c1, !c2)));
    }
    let named = FORBIDDEN_V6.iter().find(|(network, _)| network.contains(&address)).map(|(_, what)| *what);
    named.or_else(|| (!GLOBAL_UNICAST.contains(&address)).then_some("a reserved address"))
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, allow: &[&str]) -> Verdict {
        let policy =
            Policy { allow_networks: allow.iter().map(|text| text.parse().unwrap()).collect(), allow_http: false };
        judge(text.parse().unwrap(), &policy)
    }

    #[test]
    fn public_addresses_may_be_reached() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:830::200e",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            // A public relay and a public client.
            "2001:0:808:808:0:0:f7f7:f7f7",
        ] {
            assert_eq!(check(text, &[]), Verdict::Public, "{text}");
        }
    }

    #[test]
    fn what_is_not_public_is_forbidden_in_every_disguise() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "64:ff9b:1::808:808",
            "100::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            // Teredo: a private client behind a public relay, a public client behind a private relay.
            "2001:0:808:808:0:0:f5ff:fffe",
            "2001:0:a00:1:0:0:f7f7:f7f7",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(matches!(check(text, &[]), Verdict::Forbidden(_)), "{text}");
        }
    }

    #[test]
    fn an_allowed_network_is_an_exception_and_nothing_more() {
        assert_eq!(check("127.0.0.1", &["127.0.0.0/8"]), Verdict::Allowed);
        assert_eq!(check("::ffff:127.0.0.1", &["127.0.0.0/8"]), Verdict::Allowed);
        assert_eq!(check("::1", &["127.0.0.0/8"]), Verdict::Forbidden("the loopback address"));
        assert_eq!(check("10.1.0.1", &["10.0.0.0/16"]), Verdict::Forbidden("a private address"));
        assert_eq!(check("64:ff9b::7f00:1", &["127.0.0.0/8"]), Verdict::Forbidden("a loopback address"));
        assert_eq!(check("fd00::5", &["fd00::/64", "10.0.0.0/8"]), Verdict::Allowed);
        assert_eq!(check("8.8.8.8", &["8.8.8.0/24"]), Verdict::Allowed);
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_judged_alike_however_it_is_carried(bits: u32) {
            let policy = Policy::default();
            let plain = judge(Ipv4Addr::from_bits(bits).into(), &policy);
            let carried = u128::from(bits);
            for address in [
                0xffff_0000_0000 | carried,
                0x0064_ff9b_u128 << 96 | carried,
                0x2002_u128 << 112 | carried << 80 | 1,
                0x2001_0000_0808_0808_u128 << 64 | u128::from(!bits),
            ] {
                prop_assert_eq!(judge(Ipv6Addr::from_bits(address).into(), &policy), plain);
            }
        }

        #[test]
        fn only_global_unicast_and_translated_addresses_are_public(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            if judge(address.into(), &Policy::default()) == Verdict::Public {
                prop_assert!(GLOBAL_UNICAST.contains(&address) || TRANSLATED.contains(&address));
            }
        }
    }
}
