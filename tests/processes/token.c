// A token ledger. Quantities are whole numbers of up to 64 bits, in text.
//   Info                              answers the total supply and the number of accounts
//   Balance [Recipient: account]      answers the account's balance, the sender's unless said
//   Mint Quantity [Recipient]         only for the process's owner; to the owner unless said
//   Transfer Recipient Quantity       from the sender; both sides are told (Debit-Notice, Credit-Notice)
#include "ao.h"

#define ACCOUNTS 512  // bounds the state; the slot is found by hash, then by looking onward

typedef struct {
  char address[ADDRESS_BYTES - sizeof(u64)];  // empty: free
  u64 balance;
} account;

static account accounts[ACCOUNTS];
static u32 account_count;
static u64 supply;

// The account's slot, or a free one, or 0 when there is neither.
static account *find(const char *address) {
  u32 hash = 2166136261u;  // FNV-1a
  for (const char *p = address; *p; p++) hash = (hash ^ (u8)*p) * 16777619u;
  for (u32 i = 0; i < ACCOUNTS; i++) {
    account *a = &accounts[(hash + i) % ACCOUNTS];
    if (!a->address[0] || same(a->address, address)) return a;
  }
  return 0;
}

static account *find_or_open(const char *address) {
  account *a = find(address);
  if (!a) {
    fail("this ledger is full");
  } else if (!a->address[0]) {
    memcpy(a->address, address, length(address) + 1);
    account_count++;
  }
  return a;
}

static int quantity(const char *message, char *written, u32 room, u64 *out) {
  if (tag(message, "Quantity", written, room) >= 0 && decimal(written, out) && *out) return 1;
  fail("Quantity: expected a whole number from 1 to 18446744073709551615");
  return 0;
}

// The Recipient tag into `out`; `otherwise` where the message has none (0: then it must have one).
static int recipient(const char *message, char *out, const char *otherwise) {
  int n = tag(message, "Recipient", out, sizeof accounts[0].address);
  if (n > 0) return 1;
  if (n == -2 && otherwise && length(otherwise) < sizeof accounts[0].address) {
    memcpy(out, otherwise, length(otherwise) + 1);
    return 1;
  }
  fail("Recipient: expected an address of 1 to 55 bytes");
  return 0;
}

static void balance(const char *message) {
  char who[sizeof accounts[0].address];
  if (!recipient(message, who, sender)) return;
  const account *a = find(who);
  say_number(a ? a->balance : 0);
}

static void mint(const char *message, const char *environment) {
  char who[sizeof accounts[0].address], written[24];
  u64 amount;
  if (!sender_owns(environment)) {
    fail("Mint: only for the owner of this process, not for "), fail(sender);
    return;
  }
  if (!quantity(message, written, sizeof written, &amount) || !recipient(message, who, sender)) return;
  if (amount > ~0ull - supply) {
    fail("Quantity: the supply would not fit in 64 bits");
    return;
  }
  account *to = find_or_open(who);
  if (!to) return;
  supply += amount, to->balance += amount;
  say_number(supply);
}

static void transfer(const char *message) {
  char who[sizeof accounts[0].address], written[24];
  u64 amount;
  if (!recipient(message, who, 0) || !quantity(message, written, sizeof written, &amount)) return;
  account *from = find(sender);
  if (!from || from->balance < amount) {
    fail("Transfer: balance "), put_number(&failed, from ? from->balance : 0), fail(" is less than "), fail(written);
    return;
  }
  account *to = find_or_open(who);
  if (!to) return;
  from->balance -= amount, to->balance += amount;  // one account may be both
  send(sender, (tag_pair[]){{"Action", "Debit-Notice"}, {"Recipient", who}, {"Quantity", written}}, 3);
  send(who, (tag_pair[]){{"Action", "Credit-Notice"}, {"Sender", sender}, {"Quantity", written}}, 3);
  say_number(from->balance);
}

static void receive(const char *message, const char *environment, const char *action) {
  if (same(action, "Balance")) {
    balance(message);
  } else if (same(action, "Transfer")) {
    transfer(message);
  } else if (same(action, "Mint")) {
    mint(message, environment);
  } else if (same(action, "Info")) {
    say("supply "), say_number(supply), say(", accounts "), say_number(account_count);
  } else {
    fail("Action: "), fail(action), fail(" is none of Balance, Transfer, Mint, Info");
  }
}
