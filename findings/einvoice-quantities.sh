#!/usr/bin/env bash
# Software:  PyPI factur-x 7.8 (writes Factur-X and UBL) and drafthorse 2025.2.0 (Factur-X), two
#            makers of electronic invoices after EN 16931.
# Input:     one line of seconds at one cent each, with quantities from 86,400.5 to 1,234,567 as
#            numbers and as texts; and a line whose price is a small Decimal.
# One would guess: factur-x writes numbers with the four places that its source names for
#            quantities; and a Decimal is written as a decimal.
# Seen:      factur-x writes a number's six leading digits: 123456.75 s are billed as 123457, at the
#            amount of the exact ones, and pass the schema. From a million on it writes 1e+06, which
#            its own check against the schema refuses, so no such line can be made from a number; a
#            text goes through as it is. drafthorse does the like for prices: 0.000001 is fine,
#            0.0000001 becomes 1E-7 and is refused.
#            Output: "factur-x 123456.75: 123457, amount 1234.57"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check factur-x==7.8 drafthorse==2025.2.0

cat >lines.py <<'PY'
import datetime
import logging
import re
from decimal import Decimal
import facturx
from drafthorse.models.accounting import ApplicableTradeTax
from drafthorse.models.document import Document
from drafthorse.models.tradelines import LineItem

logging.disable()
DAY = datetime.date(2026, 11, 30)

def by_facturx(flavor, quantity):
    total = round(float(quantity) * 0.01, 2)
    invoice = {
        "BT-1": "F1", "BT-2": DAY, "BT-3": "380", "BT-5": "EUR", "BT-9": DAY, "BT-72": DAY,
        "BT-24": "urn:cen.eu:en16931:2017",
        "BG-4": {"name": "Seller", "vat_identifier": "FR32123456789",
                 "country_code": "FR", "city": "Paris"},
        "BG-7": {"name": "Buyer", "country_code": "FR", "city": "Lyon"},
        "BT-106": total, "BT-109": total, "BT-110": 0, "BT-112": total, "BT-115": total,
        "BG-23": [{"BT-116": total, "BT-117": 0, "BT-118": "Z", "BT-119": 0}],
        "BG-25": [{"BT-126": "1", "BT-129": quantity, "BT-130": "SEC", "BT-131": total,
                   "BT-146": 0.01, "BT-151": "Z", "BT-152": 0, "BT-153": "running"}],
    }
    made = facturx.generate_xml(invoice, flavor=flavor, check_schematron=None)
    text = (made[0] if isinstance(made, tuple) else made).decode()
    written = re.search(r"(?:BilledQuantity|InvoicedQuantity) [^>]*>([^<]*)<", text)[1]
    amount = re.search(r"(?:LineTotalAmount|LineExtensionAmount)[^>]*>([^<]*)<", text)[1]
    return f"{written}, amount {amount}"

def by_drafthorse(price):
    invoice = Document()
    invoice.context.guideline_parameter.id = \
        "urn:cen.eu:en16931:2017#conformant#urn:factur-x.eu:1p0:extended"
    invoice.header.id, invoice.header.type_code, invoice.header.name = "F1", "380", "invoice"
    invoice.header.issue_date_time = DAY
    invoice.trade.agreement.seller.name, invoice.trade.agreement.buyer.name = "Seller", "Buyer"
    invoice.trade.settlement.currency_code = "EUR"
    invoice.trade.delivery.event.occurrence = DAY
    line = LineItem()
    line.document.line_id, line.product.name = "1", "running"
    line.agreement.net.amount = price
    line.delivery.billed_quantity = (Decimal("1"), "SEC")
    line.settlement.trade_tax.type_code = "VAT"
    line.settlement.trade_tax.category_code = "Z"
    line.settlement.trade_tax.rate_applicable_percent = Decimal("0")
    line.settlement.monetary_summation.total_amount = Decimal("0.00")
    invoice.trade.items.add(line)
    tax = ApplicableTradeTax()
    tax.calculated_amount = tax.basis_amount = tax.rate_applicable_percent = Decimal("0.00")
    tax.type_code, tax.category_code = "VAT", "Z"
    invoice.trade.settlement.trade_tax.add(tax)
    sums = invoice.trade.settlement.monetary_summation
    sums.line_total = sums.charge_total = sums.allowance_total = Decimal("0.00")
    sums.tax_basis_total = sums.grand_total = sums.due_amount = Decimal("0.00")
    sums.tax_total = (Decimal("0.00"), "EUR")
    text = invoice.serialize(schema="FACTUR-X_EXTENDED").decode()
    return re.search(r"<ram:ChargeAmount>([^<]*)<", text)[1]

def refused(error):
    found = re.search(r"'([^']*)' is not a valid value of the atomic type '([^']*)'", str(error))
    return f"refused, '{found[1]}' is no {found[2]}"

for flavor in ("factur-x", "ubl-2.1"):
    for quantity in (86400.5, 123456.75, 999999, 1000000, 1234567, "123456.75", "1234567"):
        try:
            answer = by_facturx(flavor, quantity)
        except Exception as error:
            answer = refused(error)
        print(f"{flavor} {quantity!r}: {answer}")
for price in ("0.000001", "0.0000001", "0.00000012"):
    try:
        answer = by_drafthorse(Decimal(price))
    except Exception as error:
        answer = refused(error)
    print(f"drafthorse {price}: {answer}")
PY
venv/bin/python lines.py >seen

cat >expected <<'TXT'
factur-x 86400.5: 86400.5, amount 864.00
factur-x 123456.75: 123457, amount 1234.57
factur-x 999999: 999999, amount 9999.99
factur-x 1000000: refused, '1e+06' is no xs:decimal
factur-x 1234567: refused, '1.23457e+06' is no xs:decimal
factur-x '123456.75': 123456.75, amount 1234.57
factur-x '1234567': 1234567, amount 12345.67
ubl-2.1 86400.5: 86400.5, amount 864.00
ubl-2.1 123456.75: 123457, amount 1234.57
ubl-2.1 999999: 999999, amount 9999.99
ubl-2.1 1000000: refused, '1e+06' is no xs:decimal
ubl-2.1 1234567: refused, '1.23457e+06' is no xs:decimal
ubl-2.1 '123456.75': 123456.75, amount 1234.57
ubl-2.1 '1234567': 1234567, amount 12345.67
drafthorse 0.000001: 0.000001
drafthorse 0.0000001: refused, '1E-7' is no xs:decimal
drafthorse 0.00000012: refused, '1.2E-7' is no xs:decimal
TXT
if ! diff -u expected seen; then
  echo "changed: a maker of electronic invoices writes quantities or prices in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: six digits of a quantity, and exponents that the schema refuses"
