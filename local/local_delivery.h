/// One recipient's way through aliases, .forward files and mailboxes (local(8)).
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
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
    std::string owner;              ///< who forwards: a list's owner, an include file's list, the user of a .forward; empty: nobody
    std::string delivered;          ///< for Delivered-To
    bool of_list = false;           ///< `sender` is a list's owner: what the sender asked for is not passed on (RFC 3461 section 5.2.7.3)
    Expansion how = Expansion::none;
    std::string expanded_from;      ///< alias or user whose expansion this is
    bool has_rights = false;        ///< `rights` come from an alias or include file, or a user
    UserIdentity rights;            ///< for commands, files and includes
    std::optional<Account> account; ///< whose .forward is being expanded, or the recipient
    std::vector<std::string> path;  ///< aliases, includes and .forward files that led here
    int level = 0;
    bool mailbox_only = false;      ///< "\\user": neither aliases nor .forward

    bool leads_through(const std::string& step) const {
        return std::find(path.begin(), path.end(), step) != path.end();
    }
};

/// What distinguishes the new messages that one message is forwarded as.
struct Forward {
    std::string sender;
    std::string delivered;          ///< for Delivered-To
    bool of_list = false;
    bool operator<(const Forward& other) const {
        return std::tie(sender, delivered, of_list) < std::tie(other.sender, other.delivered, other.of_list);
    }
};

/// An :include: file as it was read on another thread.
struct IncludeFile {
    std::string text;
    uid_t owner = 0;
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
    Task<> deliver_user(Branch branch);
    Task<> deliver_members();
    bool aliases_first(Branch& branch) const;
    Task<bool> try_aliases(Branch branch);
    Task<bool> try_alias(Branch branch, std::string name);
    Task<> deliver_items(Branch branch, std::vector<AddressItem> items);
    Task<> deliver_item(Branch branch, AddressItem item);
    Task<> deliver_address(Branch branch, std::string address);
    Task<> deliver_include(Branch branch, std::string path);
    Branch branch_for(const Branch& parent, std::string address) const;
    Task<std::optional<Outcome>> take_rights(Branch& branch, uid_t uid);
    Task<Outcome> read_include_file(const Branch& branch, const std::string& path, std::shared_ptr<IncludeFile> file);
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
    Task<Outcome> submit_one(Forward how, std::vector<std::string> addresses);
    queue::Begin forward_request(const Forward& how, const std::vector<std::string>& addresses) const;
    void settle_member(const Branch& member, bool alone);

    bool enter(Branch& branch, const std::string& step, const std::string& loop);
    bool seen_before(const std::string& what) { return !seen_.insert(what).second; }
    /// Logs the outcome as this branch's and keeps it; while members are served, settle_member() does so.
    void finish(const Branch& branch, Outcome outcome);
    void finish_for_owner(const Branch& branch, Outcome outcome);
    /// The recipient as `branch` has it, for headers and the log.
    queue::Recipient shown(const Branch& branch) const;
    bool anything_deferred() const;
    Outcome combined() const;

    LocalTables& shared_;
    const Config& config_;
    Agent& agent_;
    MessagePtr message_;
    const queue::Recipient& recipient_;
    std::set<std::string> seen_;
    std::map<Forward, std::vector<std::string>> forwards_;   ///< addresses
    std::vector<Branch> members_;      ///< users that aliases led to, served when nothing else is in the way
    std::vector<std::pair<Branch, Outcome>> held_;           ///< what became of the member that is being served
    bool serving_member_ = false;
    bool empty_list_ = false;          ///< an include file without anybody
    std::vector<Outcome> outcomes_;
};

}  // namespace postern::local
