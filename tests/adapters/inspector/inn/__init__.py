"""An inn: guests reserve rooms; prices come from a service outside; once somebody doubles what a guest is to pay."""
