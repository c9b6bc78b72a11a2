#include "local/pipe_attributes.h"

#include <grp.h>
#include <limits.h>
#include <unistd.h>

#include "lib/base/escapes.h"
#include "lib/base/strings.h"
#include "lib/config/expand.h"
#include "lib/table/address_lookup.h"
#include "local/message.h"

namespace postern::local {
namespace {

bool set_flag(PipeAttributes& attributes, char flag) {
    switch (flag) {
        case 'B': attributes.blank_at_end = true; return true;
        case 'D': attributes.delivered_to = true; return true;
        case 'F': attributes.from_line = true; return true;
        case 'O': attributes.original_to = true; return true;
        case 'R': attributes.return_path = true; return true;
        case 'X': attributes.final_delivery = true; return true;
        case 'h': attributes.fold_domain = true; return true;
        case 'q': attributes.quote_addresses = true; return true;
        case 'u': attributes.fold_local = true; return true;
        case '.': attributes.stuff_dots = true; return true;
        case '>': attributes.quote_from = true; return true;
        default: return false;
    }
}

Result<void> set_attribute(PipeAttributes& attributes, const std::string& name, const std::string& value) {
    if (name == "flags") {
        for (const char flag : value) {
            if (!set_flag(attributes, flag)) {
                return Error(Errc::config, std::string("unknown flag '") + flag + "' in flags=" + value);
            }
        }
    } else if (name == "user") {
        attributes.user = value;
    } else if (name == "directory") {
        attributes.directory = value;
    } else if (name == "chroot") {
        attributes.chroot = value;
    } else if (name == "eol") {
        attributes.eol = without_escapes(value);
    } else if (name == "null_sender") {
        attributes.null_sender = value;
    } else if (name == "size") {
        const std::optional<std::uint64_t> limit = parse_number(value);
        if (!limit || *limit > LONG_MAX) {
            return Error(Errc::config, "bad number in size=" + value);
        }
        attributes.size_limit = static_cast<long>(*limit);
    } else {
        return Error(Errc::config, "unknown attribute \"" + name + "\"");
    }
    return {};
}

/// The $names of pipe(8) for one recipient.
class PipeNames final : public NameSource {
public:
    PipeNames(const PipeAttributes& attributes, const queue::Deliver& request, const queue::Recipient& recipient,
              const std::string& delimiter)
        : attributes_(attributes), request_(request) {
        address_ = folded(recipient.address);
        original_ = folded(recipient.original.empty() ? recipient.address : recipient.original);
        const AddressParts parts = split_address(address_);
        const std::size_t cut = extension_start(parts.local, delimiter);
        mailbox_ = parts.local;
        domain_ = parts.domain;
        user_ = parts.local.substr(0, cut);
        extension_ = cut == std::string_view::npos ? std::string_view() : parts.local.substr(cut + 1);
    }

    std::optional<Value> find(std::string_view name) const override {
        if (const std::optional<std::string> value = about_recipient(name)) {
            seen_recipient_ = true;
            return Value{*value, true};
        }
        if (std::optional<std::string> value = about_message(name)) {
            return Value{std::move(*value), true};
        }
        unknown_ = name;
        return std::nullopt;
    }

    /// A name that pipe(8) does not have; empty when there was none.
    const std::string& unknown() const { return unknown_; }

    /// A name that depends on the recipient was asked for.
    bool seen_recipient() const { return seen_recipient_; }

private:
    std::string folded(const std::string& address) const {
        const std::size_t at = address.rfind('@');
        const std::string local = address.substr(0, at);
        const std::string domain = at == std::string::npos ? std::string() : address.substr(at);
        return (attributes_.fold_local ? to_lower(local) : local) + (attributes_.fold_domain ? to_lower(domain) : domain);
    }
    std::string shown(const std::string& address) const { return attributes_.quote_addresses ? quoted(address) : address; }

    std::optional<std::string> about_recipient(std::string_view name) const {
        if (name == "recipient") {
            return shown(address_);
        }
        if (name == "original_recipient") {
            return shown(original_);
        }
        if (name == "user") {
            return user_;
        }
        if (name == "extension") {
            return extension_;
        }
        if (name == "mailbox") {
            return mailbox_;
        }
        return name == "domain" ? std::optional(domain_) : std::nullopt;
    }
    std::optional<std::string> about_message(std::string_view name) const {
        const queue::Client& client = request_.client;
        const std::pair<std::string_view, const std::string&> plain[] = {
            {"nexthop", request_.nexthop},          {"queue_id", request_.queue_id},
            {"envid", request_.dsn_envid},          {"client_address", client.address},
            {"client_helo", client.helo},           {"client_hostname", client.name},
            {"client_port", client.port},           {"client_protocol", client.protocol},
            {"sasl_method", client.sasl_method},    {"sasl_sender", client.sasl_sender},
            {"sasl_username", client.sasl_username}};
        for (const auto& [known, value] : plain) {
            if (name == known) {
                return name == "nexthop" && attributes_.fold_domain ? to_lower(value) : value;
            }
        }
        if (name == "sender") {
            return request_.sender.empty() ? attributes_.null_sender : shown(request_.sender);
        }
        if (name == "size") {
            return std::to_string(request_.headers.length + request_.body.length);
        }
        return std::nullopt;
    }

    const PipeAttributes& attributes_;
    const queue::Deliver& request_;
    std::string address_, original_, mailbox_, domain_, user_, extension_;
    mutable bool seen_recipient_ = false;
    mutable std::string unknown_;
};

}  // namespace

Result<PipeAttributes> parse_pipe_attributes(const std::vector<std::string>& words) {
    PipeAttributes attributes;
    for (std::size_t i = 0; i < words.size(); ++i) {
        std::string_view word = words[i];
        if (word.size() > 1 && word.front() == '{' && word.back() == '}') {
            word = trim(word.substr(1, word.size() - 2));   // "{ name = value with spaces }"
        }
        const std::size_t equals = word.find('=');
        if (equals == std::string_view::npos) {
            return Error(Errc::config, "need name=value, not \"" + words[i] + "\"");
        }
        const std::string name(trim(word.substr(0, equals)));
        const std::string value(trim(word.substr(equals + 1)));
        if (name == "argv") {
            attributes.argv.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
            attributes.argv.front() = value;
            break;
        }
        if (const Result<void> set = set_attribute(attributes, name, value); !set) {
            return set.error();
        }
    }
    if (attributes.argv.empty() || attributes.argv.front().empty()) {
        return Error(Errc::config, "missing argv= attribute");
    }
    if (attributes.user.empty()) {
        return Error(Errc::config, "missing user= attribute");
    }
    return attributes;
}

Result<std::vector<std::string>> expand_pipe_argv(const PipeAttributes& attributes, const queue::Deliver& request,
                                                  const std::string& recipient_delimiter) {
    std::vector<std::string> argv;
    for (const std::string& word : attributes.argv) {
        for (const queue::DeliverTo& to : request.recipients) {
            const PipeNames names(attributes, request, to.recipient, recipient_delimiter);
            Result<std::string> text = expand(word, names);
            if (!text) {
                return text.error();
            }
            if (!names.unknown().empty()) {
                return Error(Errc::config, "unknown macro name: \"" + names.unknown() + "\"");
            }
            argv.push_back(std::move(*text));
            if (!names.seen_recipient()) {
                break;   // the same for all recipients
            }
        }
    }
    return argv;
}

Result<UserIdentity> pipe_user(const std::string& text) {
    const std::size_t colon = text.find(':');
    Result<UserIdentity> user = find_user(text.substr(0, colon));
    if (!user) {
        return Error(Errc::config, "user=" + text + ": " + user.error().what);
    }
    if (colon != std::string::npos) {
        const group* found = getgrnam(text.substr(colon + 1).c_str());
        if (!found) {
            return Error(Errc::config, "user=" + text + ": unknown group");
        }
        user->gid = found->gr_gid;
    }
    user->groups = {user->gid};
    if (user->uid == 0 && geteuid() == 0) {
        return Error(Errc::config, "user=" + text + ": root privileges are not allowed");
    }
    return user;
}

}  // namespace postern::local
