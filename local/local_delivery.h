/// One recipient's way through aliases, .forward files and mailboxes (local(8)).
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "local/address_items.h"
#include "local/command.h"
#include "local/local_tables.h"

namespace postern::local {

/// Where the expansion of a recipient stands.  Passed by value: each branch has its own.
struct Branch {
    std::string address;            ///< user+ext@domain
    std::string local;              ///< its local part, lower case
    std::string user;               ///< `local` without extension
    std::string extension;          ///< without delimiter
    std::string unmatched;          ///< extension that goes on to forwarded addresses; empty: none
    std::string domain;
    std::string sender;             ///< of what is forwarded: the message's, or a list's owner
    Expansion how = Expansion::none;
    std::string expanded_from;      ///< alias or user whose expansion this is
    bool has_rights = false;        ///< `rights` come from an alias or include file, or a user
    UserIdentity rights;            ///< for commands, files and includes
    std::optional<Account> account; ///< whose .forward is being expanded, or the recipient
    std::vector<std::string> path;  ///< aliases, includes and .forward files that led here
    int level = 0;

    bool leads_through(const std::string& step) const {
        return std::find(path.begin(), path.end(), step) != path.end();
    }
};

class LocalDelivery {
public:
    /// Both outlive the object.
    LocalDelivery(LocalTables& shared, Agent& agent, MessagePtr message, std::size_t index);

    /// Delivers, and forwards what is to be forwarded.  Every delivery has been logged when it returns.
    Task<Outcome> run();

private:
    // local_recipient.cc
    Task<> deliver_recipient(Branch branch);
    Task<bool> try_alias(Branch branch, std::string name);
    Task<> deliver_items(Branch branch, std::vector<AddressItem> items);
    Task<> deliver_item(Branch branch, AddressItem item);
    Task<> deliver_address(Branch branch, std::string address);
    Task<> deliver_include(Branch branch, std::string path);
    Branch branch_for(const Branch& parent, std::string address) const;
    Task<Result<UserIdentity>> rights_of_owner(uid_t uid);
    std::string list_owner(const std::string& alias);

    // local_mailbox.cc
    Task<bool> try_forward_file(Branch branch);
    Task<bool> try_mailbox(Branch branch, bool forward_first);
    Task<> deliver_unknown(Branch branch);
    Task<> deliver_command(Branch branch, std::string text);
    Task<> deliver_file(Branch branch, std::string path);
    Task<> deliver_pass(Branch branch, std::string transport);
    std::vector<std::string> forward_paths(const Branch& branch, std::vector<bool>& uses_extension) const;
    Result<std::string> expand_for(const Branch& branch, const std::string& text, const std::string& allowed,
                                   bool* used_extension = nullptr) const;
    std::function<Outcome()> mailbox_work(const Branch& branch);
    std::vector<std::pair<std::string, std::string>> command_environment(const Branch& branch) const;

    // local_forward.cc
    void forward(const Branch& branch, std::string address);
    Task<> submit_forwards();
    Task<Outcome> submit_one(std::string sender, std::vector<std::string> addresses);
    queue::Begin forward_request(const std::string& sender, const std::vector<std::string>& addresses) const;

    bool enter(Branch& branch, const std::string& step);
    bool seen_before(const std::string& what) { return !seen_.insert(what).second; }
    /// Logs the outcome as this branch's and keeps it.
    void finish(const Branch& branch, Outcome outcome);
    bool anything_deferred() const;
    Outcome combined() const;

    LocalTables& shared_;
    const Config& config_;
    Agent& agent_;
    MessagePtr message_;
    std::size_t index_;
    const queue::Recipient& recipient_;
    std::set<std::string> seen_;
    std::map<std::string, std::vector<std::string>> forwards_;   ///< addresses by sender
    std::vector<Outcome> outcomes_;
};

}  // namespace postern::local
