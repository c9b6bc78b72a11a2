#include "lib/dns/records.h"

#include <arpa/inet.h>

#include <array>

namespace postern {
namespace {

/// "a.b.c" from wire labels at `at`; false when they do not fit.
bool wire_name(std::string_view wire, std::size_t at, std::string& out) {
    out.clear();
    while (at < wire.size()) {
        const auto length = static_cast<unsigned char>(wire[at]);
        if (length == 0) {
            return true;
        }
        if (length > 63 || at + 1 + length > wire.size()) {
            return false;
        }
        out += out.empty() ? "" : ".";
        out += wire.substr(at + 1, length);
        at += 1 + length;
    }
    return false;
}

std::uint16_t number16(std::string_view wire, std::size_t at) {
    return static_cast<std::uint16_t>(static_cast<unsigned char>(wire[at]) << 8 | static_cast<unsigned char>(wire[at + 1]));
}

}  // namespace

std::string_view dns_type_name(DnsType type) {
    switch (type) {
    case DnsType::a: return "A";
    case DnsType::ns: return "NS";
    case DnsType::cname: return "CNAME";
    case DnsType::ptr: return "PTR";
    case DnsType::mx: return "MX";
    case DnsType::txt: return "TXT";
    case DnsType::aaaa: return "AAAA";
    case DnsType::srv: return "SRV";
    case DnsType::tlsa: return "TLSA";
    }
    return "";
}

bool decode_record(DnsType type, std::string_view wire, DnsAnswer::Record& out) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    switch (type) {
    case DnsType::a:
        if (wire.size() != 4 || ::inet_ntop(AF_INET, wire.data(), text.data(), text.size()) == nullptr) {
            return false;
        }
        out.text = text.data();
        return true;
    case DnsType::aaaa:
        if (wire.size() != 16 || ::inet_ntop(AF_INET6, wire.data(), text.data(), text.size()) == nullptr) {
            return false;
        }
        out.text = text.data();
        return true;
    case DnsType::mx:
        if (wire.size() < 3) {
            return false;
        }
        out.preference = number16(wire, 0);
        return wire_name(wire, 2, out.text);
    case DnsType::srv:
        if (wire.size() < 7) {
            return false;
        }
        out.preference = number16(wire, 0);
        out.weight = number16(wire, 2);
        out.port = number16(wire, 4);
        return wire_name(wire, 6, out.text);
    case DnsType::txt:
        for (std::size_t at = 0; at < wire.size();) {
            const auto length = static_cast<unsigned char>(wire[at]);
            if (at + 1 + length > wire.size()) {
                return false;
            }
            out.text += wire.substr(at + 1, length);
            at += 1 + length;
        }
        return true;
    case DnsType::tlsa:
        out.text = wire;
        return true;
    case DnsType::ns:
    case DnsType::ptr:
    case DnsType::cname:
        return wire_name(wire, 0, out.text);
    }
    return false;
}

}  // namespace postern
