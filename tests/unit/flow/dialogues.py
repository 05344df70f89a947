"""Flows that the tests of the test runner, the simulator and the drawing play with."""

from __future__ import annotations

from ivr.flow import loader
from ivr.flow.schema import Bundle

WATER = """\
flow: water
languages: [en, zh]
start: welcome
uses: [crm]
channels: [sms, chat]
slots:
  account: {type: digits, length: 8}
  pin:     {type: digits, length: 4, secret: true}
  visit:   {type: date}
  message: {type: text}
nodes:
  welcome: {say: {en: "Welcome to Acme Water.", zh: "欢迎致电爱美水务。"}, then: main}
  main:
    menu:
      ask: {en: "Say billing, or press 1. Say repairs, or press 2.", zh: "账单请按1。报修请按2。"}
      choices:
        billing: {press: 1, say: {en: ["[my] (bill|billing)"], zh: [账单]}, then: account}
        repairs: {press: 2, say: {en: [repairs], zh: [报修]}, then: desk}
        secret:  {press: 3, say: {en: [secret], zh: [密码]}, then: pin}
        message: {press: 4, say: {en: [message], zh: [留言]}, then: note}
        phone:   {press: 5, say: {en: [phone], zh: [电话]}, then: cousin}
        text:    {press: 6, say: {en: [text], zh: [短信]}, then: offer}
      no_input: [{en: "I did not hear you.", zh: "我没有听到。"}]
      tries: 3
      otherwise: people
  account:
    collect:
      slot: account
      ask: {en: "What is your eight digit account number?", zh: "请说出或输入八位账号。"}
      otherwise: people
    then: lookup
  lookup:
    fetch: {get: "{crm}/customers/{account}", into: customer}
    then: route
    otherwise: people
  route:
    when:
      - {if: "customer.overdue > 0", then: overdue}
      - {else: balance}
  balance:
    say:
      en: "Your balance is {customer.balance:money}."
      zh: "您的余额是{customer.balance:money}。"
    then: main
  overdue:
    say: {en: "You owe {customer.overdue:money}.", zh: "您欠费{customer.overdue:money}。"}
    then: main
  pin:
    collect:
      slot: pin
      ask: {en: "Your PIN, please.", zh: "请输入密码。"}
      tries: 2
      otherwise: people
    then: check
  check:
    fetch: {post: "{crm}/checks", json: {pin: "pin"}}
    then: bye
    otherwise: people
  desk: {hours: {calendar: office, open: people, closed: closed, holiday: closed}}
  note:
    record: {slot: message, ask: {en: "Speak after the tone.", zh: "请留言。"}, max: 2m}
    then: bye
  cousin: {transfer: {to: "+442079460123", ring: 20s}, then: bye, otherwise: people}
  offer:
    offer:
      channels: [sms, chat]
      ask: {en: "Shall I text you so that we can go on there?", zh: "要不要转到短信继续？"}
      message: {en: "Acme Water: continue at {link} (code {code})", zh: "打开{link}，输入{code}"}
      declined: people
    then: main
  people:
    queue:
      skills: [billing, repairs]
      priority: "customer.vip ? 10 : 0"
      waiting: {en: "You are number {position}.", zh: "您前面还有{ahead}位。"}
      offer_after: {wait: 60s, then: offer}
    then: bye
    otherwise: closed
  closed: {say: {en: "Nobody can take your call now.", zh: "目前无人接听。"}, then: bye}
  bye: {end: {en: "Goodbye.", zh: "再见。"}}
"""


def water() -> Bundle:
    """The flow above, loaded; it is cached because loading is the slow part."""
    global _water
    if _water is None:
        _water = loader.load({"water.yaml": WATER})
    return _water


_water: Bundle | None = None
