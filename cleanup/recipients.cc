#include "cleanup/recipients.h"

#include <unordered_set>

#include "lib/base/strings.h"

namespace postern::cleanup {
namespace {

class Collector {
public:
    Collector(const Config& config, AddressMaps& maps, bool map) : config_(config), maps_(maps), map_(map) {}

    /// One recipient with all it expands to; `rewritten` is its canonical address.
    Result<void> add(const queue::Recipient& given, const std::string& rewritten) {
        std::vector<std::string> targets{rewritten};
        if (map_) {
            Result<std::vector<std::string>> expanded = maps_.expand(rewritten);
            if (!expanded) {
                return expanded.error();
            }
            targets = std::move(*expanded);
        }
        const std::string& original = given.original.empty() ? given.address : given.original;
        queue::Recipient member = given;
        if (targets.size() > 1 && (given.notify & queue::kNotifySuccess) != 0) {
            add_expanded(given, rewritten, original);
            member.notify = given.notify == queue::kNotifySuccess ? queue::kNotifyNever
                                                                  : static_cast<std::uint8_t>(given.notify & ~queue::kNotifySuccess);
        }
        for (std::string& target : targets) {
            queue::Recipient out = member;
            out.expanded = false;
            out.original = config_.enable_original_recipient() && original != target ? original : "";
            out.address = std::move(target);
            if (is_new(out, original)) {
                out_.recipients.push_back(std::move(out));
            }
        }
        return {};
    }

    /// An automatic copy: rewritten and expanded as any recipient, without DSN requests.
    Result<void> add_bcc(const std::string& address) {
        const Result<std::string> rewritten = maps_.rewrite(address, kEnvelopeRecipient, map_);
        if (!rewritten) {
            return rewritten.error();
        }
        queue::Recipient bcc;
        bcc.address = address;
        return add(bcc, *rewritten);
    }

    FinalRecipients take() { return std::move(out_); }

private:
    void add_expanded(const queue::Recipient& given, const std::string& rewritten, const std::string& original) {
        queue::Recipient alias = given;
        alias.address = rewritten;
        alias.original = original != rewritten ? original : "";
        alias.notify = queue::kNotifySuccess;
        alias.expanded = true;
        if (expanded_.insert(to_lower(original) + '\n' + to_lower(rewritten) + '\n' + alias.dsn_orcpt).second) {
            out_.expanded.push_back(std::move(alias));
        }
    }

    /// False for a duplicate.  With enable_original_recipient two ways to one mailbox are not duplicates, so that
    /// X-Original-To tells both; DSN requests differ likewise (Postfix's rule).
    bool is_new(const queue::Recipient& recipient, const std::string& original) {
        if (seen_.size() >= static_cast<std::size_t>(config_.duplicate_filter_limit()) && config_.duplicate_filter_limit() > 0) {
            return true;
        }
        std::string key = to_lower(recipient.address);
        if (config_.enable_original_recipient()) {
            key += '\n' + to_lower(original) + '\n' + recipient.dsn_orcpt + '\n' + std::to_string(recipient.notify);
        }
        return seen_.insert(std::move(key)).second;
    }

    const Config& config_;
    AddressMaps& maps_;
    bool map_;
    FinalRecipients out_;
    std::unordered_set<std::string> seen_, expanded_;
};

}  // namespace

Result<FinalRecipients> final_recipients(const Config& config, AddressMaps& maps, const queue::Begin& begin,
                                         const std::string& sender, const std::vector<std::string>& extra_bcc) {
    Collector collector(config, maps, begin.map_addresses);
    std::vector<std::string> bcc = extra_bcc;
    for (const queue::Recipient& given : begin.envelope.recipients) {
        const std::string& address = given.address.empty() ? config.empty_address_recipient() : given.address;
        const Result<std::string> rewritten = maps.rewrite(address, kEnvelopeRecipient, begin.map_addresses);
        if (!rewritten) {
            return rewritten.error();
        }
        const Result<void> added = collector.add(given, *rewritten);
        if (!added) {
            return added.error();
        }
        if (begin.add_bcc) {
            const Result<std::vector<std::string>> found = maps.recipient_bcc(*rewritten);
            if (!found) {
                return found.error();
            }
            bcc.insert(bcc.end(), found->begin(), found->end());
        }
    }
    if (begin.add_bcc) {
        const Result<std::vector<std::string>> found = maps.sender_bcc(sender);
        if (!found) {
            return found.error();
        }
        bcc.insert(bcc.end(), found->begin(), found->end());
        if (!config.always_bcc().empty()) {
            bcc.push_back(config.always_bcc());
        }
    }
    for (const std::string& address : bcc) {
        const Result<void> added = collector.add_bcc(address);
        if (!added) {
            return added.error();
        }
    }
    return collector.take();
}

}  // namespace postern::cleanup
