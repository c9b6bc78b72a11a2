#include "tools/queue_shape.h"

#include <algorithm>

#include "lib/base/strings.h"

namespace postern::tools {

std::string shape_domain(std::string_view address) {
    if (address.empty()) {
        return "MAILER-DAEMON";
    }
    std::string domain = to_lower(address.substr(address.rfind('@') + 1));   // npos + 1 is 0: all of it
    domain.erase(std::unique(domain.begin(), domain.end(), [](char a, char b) { return a == '.' && b == '.'; }), domain.end());
    if (domain.size() > 1 && domain.front() == '.') {
        domain.erase(0, 1);
    }
    if (domain.size() > 1 && domain.back() == '.') {
        domain.pop_back();
    }
    return domain;
}

std::string shape_parent(std::string_view domain) {
    if (!domain.empty() && domain.front() == '.') {
        domain.remove_prefix(1);
    }
    const std::size_t dot = domain.find('.');
    if (dot == domain.npos || domain.find('.', dot + 1) == domain.npos) {
        return {};
    }
    return std::string(domain.substr(dot));
}

std::size_t QueueShape::bucket_of(std::int64_t arrival_seconds) const {
    const std::int64_t unit = 60 * options_.first_minutes;
    const std::int64_t age = std::max<std::int64_t>(0, now_ - arrival_seconds);
    std::size_t bucket = 0;
    for (std::int64_t end = unit; bucket + 1 < options_.buckets && age >= end; ++bucket) {
        end += options_.linear ? unit : end;
    }
    return bucket;
}

/// True when the row is new.
bool QueueShape::count(ShapeRow& row, std::size_t bucket, const ListedMessage& message, const std::string& reason) {
    const bool fresh = row.total == 0;
    row.ages.resize(options_.buckets);
    ++row.total;
    ++row.ages[bucket];
    if (message.next_try_seconds != 0 && (row.next_try_seconds == 0 || message.next_try_seconds < row.next_try_seconds)) {
        row.next_try_seconds = message.next_try_seconds;
    }
    if (!reason.empty()) {
        row.reason = reason;
    }
    return fresh;
}

void QueueShape::add_address(std::string_view address, std::size_t bucket, const ListedMessage& message, const std::string& reason) {
    count(total_, bucket, message, std::string());
    std::string domain = shape_domain(address);
    bool fresh = false;
    do {
        Counted& counted = domains_[domain];
        counted.subdomains += fresh ? 1 : 0;
        fresh = count(counted.row, bucket, message, reason);
        if (fresh) {
            counted.row.domain = domain;
        }
        domain = options_.parents ? shape_parent(domain) : std::string();
    } while (!domain.empty());
}

void QueueShape::add(const ListedMessage& message) {
    ++messages_;
    const std::size_t bucket = bucket_of(message.arrival_seconds);
    if (options_.senders) {
        add_address(message.sender, bucket, message, message.recipients.empty() ? std::string() : message.recipients.front().reason);
        return;
    }
    for (const ListedRecipient& recipient : message.recipients) {
        add_address(recipient.address, bucket, message, recipient.reason);
    }
}

std::vector<const ShapeRow*> QueueShape::rows() const {
    std::vector<const ShapeRow*> rows;
    for (const auto& [domain, counted] : domains_) {
        if (domain.empty() || domain.front() != '.' || counted.subdomains >= options_.minimum_subdomains) {
            rows.push_back(&counted.row);
        }
    }
    std::sort(rows.begin(), rows.end(), [](const ShapeRow* a, const ShapeRow* b) {
        if (a->total != b->total) {
            return a->total > b->total;
        }
        return a->domain.size() != b->domain.size() ? a->domain.size() < b->domain.size() : a->domain < b->domain;
    });
    return rows;
}

std::vector<std::string> QueueShape::heads() const {
    std::vector<std::string> heads;
    std::int64_t end = options_.first_minutes;
    for (std::size_t i = 0; i + 1 < options_.buckets; ++i) {
        heads.push_back(std::to_string(end));
        if (i + 2 < options_.buckets) {
            end += options_.linear ? options_.first_minutes : end;
        }
    }
    heads.push_back(options_.buckets > 1 ? std::to_string(end) + "+" : "0+");
    return heads;
}

}  // namespace postern::tools
