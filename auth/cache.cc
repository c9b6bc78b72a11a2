#include "auth/cache.h"

#include <openssl/hmac.h>

#include "lib/base/strings.h"

namespace postern {

namespace {

constexpr std::size_t kOverhead = 256;   // list node, map node, key twice

}  // namespace

PasswordCache::PasswordCache(std::size_t size_bytes, std::chrono::seconds ttl, std::chrono::seconds negative_ttl)
    : size_limit_(size_bytes), ttl_(ttl), negative_ttl_(negative_ttl), secret_(random_bytes(32)) {}

std::string PasswordCache::key_of(std::string_view user, std::string_view password) const {
    std::string text(user);
    text += '\0';
    text += password;
    std::string key(32, '\0');
    unsigned int size = 0;
    HMAC(EVP_sha256(), secret_.data(), static_cast<int>(secret_.size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), reinterpret_cast<unsigned char*>(key.data()),
         &size);
    OPENSSL_cleanse(text.data(), text.size());
    return key;
}

std::optional<PasswordCache::Known> PasswordCache::find(std::string_view user, std::string_view password,
                                                        Clock::time_point now) {
    if (!enabled() || entries_.empty()) {
        return std::nullopt;
    }
    const auto found = by_key_.find(key_of(user, password));
    if (found == by_key_.end()) {
        return std::nullopt;
    }
    const Entries::iterator entry = found->second;
    if (entry->expires <= now) {
        drop(entry);
        return std::nullopt;
    }
    entries_.splice(entries_.begin(), entries_, entry);
    return entry->known;
}

void PasswordCache::remember(std::string_view user, std::string_view password, Known known, Clock::time_point now) {
    const std::chrono::seconds ttl = known == Known::good ? ttl_ : negative_ttl_;
    if (!enabled() || ttl.count() <= 0) {
        return;
    }
    if (known == Known::good) {
        for (auto entry = entries_.begin(); entry != entries_.end();) {
            const auto next = std::next(entry);
            if (entry->user == user) {
                drop(entry);
            }
            entry = next;
        }
    }
    std::string key = key_of(user, password);
    if (const auto old = by_key_.find(key); old != by_key_.end()) {
        drop(old->second);
    }
    entries_.push_front(Entry{key, std::string(user), known, now + ttl});
    by_key_[std::move(key)] = entries_.begin();
    size_ += kOverhead + user.size();
    while (size_ > size_limit_ && !entries_.empty()) {
        drop(std::prev(entries_.end()));
    }
}

void PasswordCache::clear() {
    entries_.clear();
    by_key_.clear();
    size_ = 0;
}

void PasswordCache::drop(Entries::iterator entry) {
    size_ -= kOverhead + entry->user.size();
    by_key_.erase(entry->key);
    entries_.erase(entry);
}

}  // namespace postern
