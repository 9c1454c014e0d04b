mod docker;

#[test]
fn t() {}
