#include "lib/table/address_lookup.h"

#include "lib/base/strings.h"
#include "lib/mail/address.h"

namespace postern {
namespace {

bool ends_with_ignoring_case(std::string_view text, std::string_view suffix) {
    return text.size() >= suffix.size() && equals_ignoring_case(text.substr(text.size() - suffix.size()), suffix);
}

/// Tries one key after another, keeping the first hit or error.
class Search {
public:
    Search(TableList& tables, const AddressQuery& query) : tables_(tables), query_(query) {}

    /// True when the search is over.
    bool try_key(const std::string& key, bool partial, std::string_view extension = {}) {
        std::string table;
        Lookup answer = tables_.lookup(key, partial, &table);
        if (!answer) {
            error_ = answer.error();
            return true;
        }
        if (*answer) {
            hit_ = AddressHit{std::move(**answer), key, std::string(extension), std::move(table)};
        }
        return hit_.has_value();
    }

    /// All keys for one spelling of the local part; `base` is it without `extension`.
    bool try_forms(const std::string& local, const std::string& base, std::string_view extension) {
        const AddressParts parts = split_address(query_.address);
        const std::string domain(parts.domain);
        const std::string at_domain = parts.has_domain ? "@" + domain : std::string();
        const bool extended = !extension.empty() && (query_.keys & kKeyNoExtension);
        if ((query_.keys & kKeyFull) && try_key(local + at_domain, false)) {
            return true;
        }
        if (extended && try_key(base + at_domain, true, extension)) {
            return true;
        }
        if ((query_.keys & kKeyLocalIfLocal) && query_.domain_is_local && parts.has_domain &&
            (try_key(local, true) || (extended && try_key(base, true, extension)))) {
            return true;
        }
        if ((query_.keys & kKeyAtDomain) && parts.has_domain && try_key(at_domain, true)) {
            return true;
        }
        if ((query_.keys & kKeyDomain) && try_domain(parts.domain)) {
            return true;
        }
        return (query_.keys & kKeyLocalAt) &&
               (try_key(local + "@", true) || (extended && try_key(base + "@", true, extension)));
    }

    Result<std::optional<AddressHit>> result() {
        if (error_) {
            return *error_;
        }
        return std::move(hit_);
    }

private:
    bool try_domain(std::string_view domain) {
        while (!domain.empty()) {
            if (try_key(std::string(domain), true)) {
                return true;
            }
            const std::size_t dot = domain.find('.', 1);
            if (dot == std::string_view::npos) {
                return false;
            }
            domain.remove_prefix(query_.parent_domains ? dot + 1 : dot);
        }
        return false;
    }

    TableList& tables_;
    const AddressQuery& query_;
    std::optional<Error> error_;
    std::optional<AddressHit> hit_;
};

}  // namespace

AddressParts split_address(std::string_view address) {
    const std::size_t at = address.rfind('@');
    if (at == std::string_view::npos) {
        return {address, {}, false};
    }
    return {address.substr(0, at), address.substr(at + 1), true};
}

std::size_t extension_start(std::string_view local, std::string_view delimiters, bool owner_request_special) {
    if (delimiters.empty() || equals_ignoring_case(local, "mailer-daemon") || equals_ignoring_case(local, "postmaster") ||
        equals_ignoring_case(local, "double-bounce")) {
        return std::string_view::npos;
    }
    if (owner_request_special && delimiters.find('-') != std::string_view::npos &&
        (starts_with_ignoring_case(local, "owner-") || ends_with_ignoring_case(local, "-request"))) {
        return std::string_view::npos;
    }
    const std::size_t at = local.find_first_of(delimiters);
    return at == 0 ? std::string_view::npos : at;
}

Result<std::optional<AddressHit>> lookup_address(TableList& tables, const AddressQuery& query) {
    if (tables.empty() || query.address.empty()) {
        return std::optional<AddressHit>();
    }
    const AddressParts parts = split_address(query.address);
    const std::size_t cut = extension_start(parts.local, query.delimiters);
    const std::string local(parts.local);
    const std::string base(parts.local.substr(0, cut));
    const std::string_view extension = cut == std::string_view::npos ? std::string_view() : parts.local.substr(cut);
    Search search(tables, query);
    // Table keys are addresses in external form ("a b"@example); the plain form is tried as older tables have it.
    const std::string quoted = quote_local(local);
    if (quoted != local && search.try_forms(quoted, quote_local(base), extension)) {
        return search.result();
    }
    search.try_forms(local, base, extension);
    return search.result();
}

}  // namespace postern
